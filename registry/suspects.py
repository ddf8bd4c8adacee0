"""List reviewed labels that the models of a run contradict, as a plan for a second review.

usage: upheld suspects RUN --out plan.csv

The answers come back as outcomes of source `targeted`. They change what the next retrain learns, and enter no estimate.
"""

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import pyarrow as pa
import typer

from upheld.common import files
from upheld.common.command import PARAM_OPTIONS, STORE_FOLDER, Output, ParamOptions, StoreFolder, command, parse_time
from upheld.common.params import params
from upheld.common.terminal import console
from upheld.evaluation.audit import tables
from upheld.feature_store.contracts.snapshot import read_snapshot
from upheld.feature_store.contracts.tables import PLAN, TARGETED
from upheld.feature_store.contracts.workspace import NGRAM_MODEL, SNAPSHOT
from upheld.feature_store.ledger.ledger import Ledger
from upheld.feature_store.ledger.verdicts import ITEM, VOTES, counting_votes, standing
from upheld.registry.runs import history

SAID = {vote: {"restore": "no violation", "confirm_removal": "a violation"}[verdict] for verdict, vote in VOTES.items()}


def run(settings: params.Params, workspace: Path, store: Path, as_of: datetime) -> list[dict[str, Any]]:
    """List the suspect labels of a run's snapshot that nobody has judged again since.

    Args:
        settings: as `upheld.training.suspects.find` reads them.
        workspace: of the run.
        store: folder with the ledger.
        as_of: reviews recorded later are unknown.

    Returns:
        by category, the most suspect first: post_id, category, language, label (0 or 1), prob, quality, reviewers (pseudonymous id -> what
        they said), reviewed_at (the last review, ISO 8601), reason (a sentence).

    Raises:
        BadUse: there is no ledger.
        FailedWork: the run has no snapshot or n-gram model, or too few texts.
    """
    outcomes = Ledger(store).read("review_outcomes").to_pandas()
    from upheld.training import suspects  # with torch, which whoever errs above need not wait for
    from upheld.training.loop.teacher import chosen_weight

    data = read_snapshot(workspace / SNAPSHOT)
    again = (outcomes["source"] == TARGETED) | (outcomes["recorded_at"] > pd.Timestamp(data.manifest["as_of"]))
    found = suspects.find(data, settings, chosen_weight(workspace / NGRAM_MODEL), outcomes.loc[again, ITEM])
    known = standing(outcomes, pd.Timestamp(as_of))
    votes = counting_votes(known)
    said = votes.assign(vote=votes["vote"].map(SAID)).set_index("reviewer_id").groupby(ITEM)["vote"].agg(dict).to_dict()
    last = known.groupby(ITEM)["reviewed_at"].max().to_dict()
    rows: list[Any] = list(found.itertuples(index=False))
    listed = []
    for row in rows:
        item = (row.post_id, row.category)
        if item not in said:  # erased since
            continue
        reason = (
            f"labelled {SAID[row.label]}, to which models that did not learn from this label give a chance of {row.quality:.1%}: they put a"
            f" violation at {row.prob:.1%}, and at {row.usual:.1%} on average where reviewers said {SAID[1 - row.label]}"
        )
        about = {name: getattr(row, name) for name in ("post_id", "category", "language", "label", "prob", "quality")}
        listed.append(about | {"reviewers": said[item], "reviewed_at": last[item].isoformat(), "reason": reason})
    return listed


def plan(listed: list[dict[str, Any]], drawn_at: datetime) -> pa.Table:
    """The plan that people get: what to judge and nothing of what a model or a reviewer said of it, which would lead them.

    A post and category has the same draw_id in every plan. There is no inclusion_prob: nothing was drawn.
    """
    rows = []
    for row in listed:
        digest = hashlib.sha256(f"{row['post_id']}\0{row['category']}".encode()).hexdigest()
        asked = {name: row[name] for name in ("post_id", "category", "language")}
        rows.append({"draw_id": f"t_{digest[:20]}", **asked, "zone": TARGETED, "inclusion_prob": None, "drawn_at": drawn_at})
    return pa.Table.from_pylist(rows, schema=PLAN)


@command("suspects")
def main(
    run_name: Annotated[str, typer.Argument(metavar="RUN", help="A run of `upheld runs`, or a beginning of its name.")],
    out: Annotated[Path, typer.Option(help="Plan to write, .csv, .jsonl or .parquet.")],
    as_of: Annotated[str, typer.Option(help="Time of the list, ISO 8601 with a zone; now where it is left out.")] = "",
    asked: ParamOptions = PARAM_OPTIONS,
    store: StoreFolder = STORE_FOLDER,
) -> Output:
    """List reviewed labels that the models contradict, for a second review."""
    settings = params.load(*asked, store)
    tables.require_suffix(out)
    moment = parse_time(as_of, "--as-of") if as_of else datetime.now(UTC)
    listed = run(settings, history.folder(store, run_name), store, moment)
    with files.replacing(out) as partial:
        tables.write_draws(plan(listed, moment), partial, out.suffix)

    def show() -> None:
        """Print a paragraph a label."""
        screen = console(stderr=False)
        for row in listed:
            people = ", ".join(f"{name}: {verdict}" for name, verdict in row["reviewers"].items())
            line = f"{row['category']} {row['post_id']} ({row['language']}): {row['reason']}. {people}; last on {row['reviewed_at'][:10]}"
            screen.print(line, markup=False, highlight=False, soft_wrap=True)
        screen.print(
            f"{len(listed)} labels for a second review by somebody else\nPlan: {out}", markup=False, highlight=False, soft_wrap=True
        )

    return Output({"out": str(out), "suspects": listed}, show)
