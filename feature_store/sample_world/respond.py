"""Let the reviewers of a sample world answer an audit plan.

usage: upheld sample-data respond --plan plan.parquet --world world --out answers
"""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import pandas as pd
import pyarrow as pa
import typer

from upheld.common import files
from upheld.common.command import Output, command
from upheld.common.errors import BadUse
from upheld.common.terminal import console
from upheld.feature_store.contracts import tables
from upheld.feature_store.contracts.tables import SYNTHETIC_MARK
from upheld.feature_store.sample_world.base import refuse_others_folder, write_mark, write_table
from upheld.feature_store.sample_world.moderation import answer


def run(plan: pd.DataFrame, world: Path, out: Path) -> tuple[int, datetime]:
    """Write a delivery of review outcomes that answer `plan`.

    Args:
        plan: one row a draw, as `audit-sample` and `suspects` write it: draw_id, post_id, category, zone, inclusion_prob, drawn_at (UTC).
        world: folder of the sample world; its truth and its reviewers' error rates are read.
        out: folder to write. The same plan gives the same files.

    Returns:
        number of rows, and the earliest `--as-of` (UTC) at which an ingest takes every answer.

    Raises:
        BadUse: `world` is no sample world, `out` is somebody else's folder, or a draw is repeated or unknown to the world.
    """
    refuse_others_folder(out)
    try:
        seed = int(json.loads((world / SYNTHETIC_MARK).read_text(encoding="utf-8"))["seed"])
    except (OSError, ValueError, KeyError) as error:
        raise BadUse(
            f"--world {world}: no sample world (its {SYNTHETIC_MARK} is missing or broken); make one with `upheld sample-data`"
        ) from error
    truth = pd.concat([pd.read_parquet(file) for file in sorted((world / "truth").glob("week=*.parquet"))])
    found = plan.merge(truth[["post_id", "category"]], on=["post_id", "category"], how="left", indicator=True, validate="many_to_one")
    unknown = found[found["_merge"] == "left_only"]
    if len(unknown):
        first = unknown.iloc[0]
        raise BadUse(
            f"--plan: draw {first.draw_id} is of post {first.post_id} and category {first.category}, which the world {world} does not hold"
            f" ({len(unknown)} such draws); name the world that the decisions were made on"
        )
    outcomes = answer(plan, truth, pd.read_parquet(world / "truth" / "reviewers.parquet"), seed)
    last = outcomes.reviewed_at.max() if len(outcomes) else plan.drawn_at.max() if len(plan) else pd.Timestamp.now(UTC)
    as_of = (last + timedelta(minutes=1)).floor("min")
    with files.replacing_folder(out) as folder:
        schema = pa.schema(list(tables.DELIVERED["review_outcomes"].schema))
        write_table(folder / "review_outcomes" / "answers.parquet", outcomes, schema)
        write_mark(folder, seed, as_of)
    return len(outcomes), as_of


def read_plan(path: Path) -> pd.DataFrame:
    """Read a plan from a .parquet, .csv or .jsonl file with the columns of the audit draws; `drawn_at` becomes UTC timestamps.

    Raises:
        BadUse: not readable, a column is missing, or a value cannot be; naming file, row and column.
    """
    try:
        ids = {"draw_id": str, "post_id": str}
        if path.suffix == ".csv":
            plan = pd.read_csv(path, dtype=ids)
        else:
            plan = pd.read_json(path, lines=True, dtype=ids, precise_float=True) if path.suffix == ".jsonl" else pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise BadUse(
            f"{path}: cannot be read as {path.suffix or 'Parquet'} ({error}); expected the plan of `upheld audit-sample`"
        ) from error
    missing = [name for name in tables.AUDIT_DRAWS.names if name not in plan]
    if missing:
        raise BadUse(f"{path}: no column {missing[0]!r}; expected the columns {', '.join(tables.AUDIT_DRAWS.names)}")
    targeted, prob = plan.zone == tables.TARGETED, pd.to_numeric(plan.inclusion_prob, errors="coerce")
    plan = plan.assign(drawn_at=pd.to_datetime(plan.drawn_at, utc=True, errors="coerce"))
    for column, good, expected in (
        ("draw_id", plan.draw_id.notna() & ~plan.draw_id.duplicated(), "an id that no other row has"),
        ("zone", plan.zone.isin([*tables.ZONES, tables.TARGETED]), " / ".join([*tables.ZONES, tables.TARGETED])),
        ("inclusion_prob", prob.between(0, 1, inclusive="right") | (targeted & plan.inclusion_prob.isna()), "a number in (0, 1]"),
        ("drawn_at", plan.drawn_at.notna(), "a UTC time"),
    ):
        if not good.all():
            row = int((~good).to_numpy().argmax())
            raise BadUse(f"{path}: row {row + 1}, column {column}: found {plan[column].iloc[row]!r}, expected {expected}")
    return plan


@command("sample-data respond")
def main(
    plan: Annotated[Path, typer.Option(help="Plan of `upheld audit-sample` or `upheld suspects`.")],
    world: Annotated[Path, typer.Option(help="The sample world that the plan was drawn from.")],
    out: Annotated[Path, typer.Option(help="Delivery to write; an earlier one made by sample-data is replaced.")],
) -> Output:
    """Let the sample world's reviewers judge the posts that an audit drew."""
    draws = read_plan(plan)
    num_outcomes, answered = run(draws, world, out)
    as_of = f"{answered:%Y-%m-%dT%H:%M:%SZ}"

    def show() -> None:
        console().print(f"Synthetic answers to {len(draws)} draws in {out}: {num_outcomes} review outcomes.")
        console().print(f"Next: upheld ingest {out} --as-of {as_of}")

    return Output({"out": str(out), "as_of": as_of, "synthetic": True, "draws": len(draws), "outcomes": num_outcomes}, show)
