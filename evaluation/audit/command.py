"""Draw the three-zone audit: which posts people should look at (again), each with a known probability."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from upheld.common import files
from upheld.common.command import PARAM_OPTIONS, STORE_FOLDER, Output, ParamOptions, StoreFolder, command, parse_time
from upheld.common.errors import BadUse, FailedWork
from upheld.common.params import params
from upheld.common.terminal import console, visible
from upheld.evaluation.audit import design, tables
from upheld.evaluation.audit.design import ZONES, Part, Posts, inclusion_probs, permanent_number

SECRET_VARIABLE = "UPHELD_AUDIT_SECRET"  # noqa: S105 (the variable's name, not its value)
NAMES = {"auto_remove": "removed", "review": "queued", "none": "passed"}


@dataclass(frozen=True)
class Result:
    """The plan (one row a newly drawn post x category), the frame's size, how many of it were drawn before, the sample's size and range.

    `expected`, `low` and `high` (95 %) count what was drawn before, which keeps its place in the sample, and so does `parts`: what each
    zone of each category gets and why.
    """

    plan: pd.DataFrame
    num_frame: int
    num_before: int
    expected: float
    low: int
    high: int
    parts: list[Part]


def run(settings: params.Params, frame: pd.DataFrame, budget: int, secret: bytes, drawn_at: datetime) -> Result:
    """Draw each row of the frame by itself with its own probability (Poisson sampling).

    Args:
        settings: audit_sample; what labels buy depends on thresholds, fairness and seed.
        frame: post_id, category, language, score in [0, 1], action, drawn_before; one row a post x category. What an earlier draw
            took stays in the frame, or the rest would be no sample with the stated probabilities, and is not taken again.
        budget: expected size of the sample, at least 1.
        secret: key of the permanent random numbers: the same post and category always get the same number, so a draw
            can be repeated by us and not be foreseen by uploaders.
        drawn_at: UTC time written into the plan.

    Returns:
        the plan and its size; `inclusion_prob` sums to min(budget, rows) over the frame.

    Raises:
        BadUse: the frame is empty, or so large that the budget cannot give every row the smallest allowed probability.

    Source: Ohlsson (1995), "Coordination of samples using permanent random numbers"; docs/statistics.md, Audits.
    """
    if frame.empty:
        raise BadUse("no decision is left to draw from: every post and category of the table is labelled already")
    frame = frame.sort_values(["post_id", "category"])  # sums of floats depend on their order, and draws must not
    posts: dict[str, dict[str, Posts]] = {}  # category -> zone
    for (category, zone), rows in frame.groupby(["category", "action"]):
        own = Posts(rows.score.to_numpy(dtype=np.float64), np.ones(len(rows)), rows.language.to_numpy(dtype=object))
        posts.setdefault(str(category), {})[str(zone)] = own
    wants = {category: design.wanted(zones, settings) for category, zones in posts.items()}
    parts = design.allocate(posts, wants, budget, settings.audit_sample)
    prob = inclusion_probs(frame, {(part.category, part.zone): part.labels for part in parts}, settings.audit_sample)
    uniform = np.array([permanent_number(secret, *key) for key in zip(frame.post_id, frame.category, strict=True)])
    drawn = frame.assign(zone=frame.action, inclusion_prob=prob, drawn_at=pd.Timestamp(drawn_at))[(uniform < prob) & ~frame.drawn_before]
    keys = ("\0".join(map(str, row)) for row in zip(drawn.post_id, drawn.category, drawn.inclusion_prob, drawn.drawn_at, strict=True))
    ids = [f"a_{hashlib.sha256(key.encode()).hexdigest()[:20]}" for key in keys]
    plan = drawn.assign(draw_id=ids)[tables.COLUMNS].sort_values(["category", "language", "zone", "draw_id"], ignore_index=True)
    spread = 1.96 * float(np.sqrt((prob * (1 - prob)).sum()))
    return Result(
        plan,
        len(frame),
        int(frame.drawn_before.sum()),
        float(prob.sum()),
        int(max(prob.sum() - spread, 0)),
        int(np.ceil(prob.sum() + spread)),
        parts,
    )


@command("audit-sample")
def main(
    out: Annotated[Path, typer.Option(help="Plan to write, .csv, .jsonl or .parquet.")],
    decisions: Annotated[
        Path | None, typer.Option(help="Decisions to draw from: a file, a folder, or a delivery with posts beside them.")
    ] = None,
    budget: Annotated[int | None, typer.Option(min=1, help="How many labels are wanted, as an expectation.")] = None,
    again: Annotated[
        str | None, typer.Option(metavar="DRAW", help="Write an earlier draw again, nothing is drawn: `last`, its time or a draw_id.")
    ] = None,
    as_of: Annotated[str, typer.Option(help="Time of the draw, ISO 8601 with a zone; now where it is left out.")] = "",
    asked: ParamOptions = PARAM_OPTIONS,
    store: StoreFolder = STORE_FOLDER,
) -> Output:
    """Draw posts for people to judge, each with a known probability."""
    settings = params.load(*asked, store)
    tables.require_suffix(out)
    if again is not None:
        if decisions is not None or budget is not None or as_of:
            raise BadUse("--again writes an earlier draw as it is; leave out --decisions, --budget and --as-of")
        draws = tables.recorded_draws(store, again)
        with files.replacing(out) as partial:
            tables.write_draws(draws, partial, out.suffix)
        summary = describe(draws.to_pandas()) | {"draw": draws["drawn_at"][0].as_py().isoformat(), "again": True, "out": str(out)}
    elif decisions is None or budget is None:
        raise BadUse("a draw needs --decisions and --budget; --again DRAW writes an earlier one again")
    else:
        summary = _draw(settings, decisions, budget, out, parse_time(as_of, "--as-of") if as_of else datetime.now(UTC), store)
    return Output(summary, lambda: show(summary, console()))


def _draw(settings: params.Params, decisions: Path, budget: int, out: Path, drawn_at: datetime, store: Path) -> dict[str, Any]:
    """Draw, write the plan and record it; returns what `show` shows.

    Raises:
        BadUse: there is no secret, a draw of that time is recorded, or the decisions break their contract.
        FailedWork: nothing was drawn, so there is no plan to write.
    """
    secret = os.environ.get(SECRET_VARIABLE, "").encode()
    if len(secret) < 16:
        raise BadUse(
            f"set the environment variable {SECRET_VARIABLE} to a secret of 16 characters or more: nobody else must foresee the draw"
        )
    with console().status("Reading decisions and what is labelled"):
        frame = tables.read_frame(*tables.read_known(decisions, store, settings.ingest), settings.ingest)
    result = run(settings, frame, budget, secret, drawn_at)
    if result.plan.empty:
        drew = f"drew 0 of {result.num_frame:,} decisions, though {result.expected:.0f} are expected"
        if not result.num_before:
            raise FailedWork(f"{drew}: chance spared them all; draw with a larger --budget than {budget}")
        before = f"{result.num_before:,} {'was' if result.num_before == 1 else 'were'} drawn before, and nothing is drawn twice"
        again = "`upheld audit-sample --again last --out FILE` writes the last draw again; a larger --budget draws more"
        raise FailedWork(f"{drew}: {before}. {again}")
    if drawn_at in tables.draw_times(store):
        raise BadUse(f"--as-of {drawn_at.isoformat()}: a draw of that time is recorded; the time names a draw, so give another")
    draws = tables.draws_of(result.plan)
    with files.replacing(out) as partial:
        tables.write_draws(draws, partial, out.suffix)
        tables.record(store, draws)  # the plan takes its name only once the ledger knows the draw
    summary = describe(result.plan) | {"allocation": allocated(result.plan, result.parts)}
    summary |= {"draw": drawn_at.isoformat(), "again": False, "out": str(out), "expected": result.expected}
    return summary | {"low": result.low, "high": result.high, "drawn_before": result.num_before, "frame": result.num_frame}


def describe(plan: pd.DataFrame) -> dict[str, Any]:
    """The plan in numbers.

    Returns:
        {drawn, zones: {zone: n}, languages: {language: n}}; each language reads as one queue of reviewers of that language.
    """
    return {
        "drawn": len(plan),
        "zones": {zone: int((plan.zone == zone).sum()) for zone in ZONES},
        "languages": {str(name): int(num) for name, num in plan.language.value_counts().items()},
    }


def allocated(plan: pd.DataFrame, parts: Sequence[Part]) -> list[dict[str, Any]]:
    """What each zone gets, [{category, zone, posts, wanted, labels, drawn, reason}]; `labels` is an expectation that counts earlier draws,
    `drawn` is new."""
    new = plan.groupby(["category", "zone"]).size()
    return [{**part._asdict(), "drawn": int(new.get((part.category, part.zone), 0))} for part in parts]


def show(summary: Mapping[str, Any], console: Console) -> None:
    """Print what the draw was, out of `describe` with draw, again and out; of a new one also allocation, expected, low, high, frame and
    drawn_before."""
    if summary["again"]:
        zones = ", ".join(f"{num:,} {NAMES[zone]}" for zone, num in summary["zones"].items() if num)
        console.print(f"The draw of {summary['draw']} again: {summary['drawn']:,} posts ({zones}).", markup=False, soft_wrap=True)
    else:
        before = f"; {summary['drawn_before']:,} were drawn before and are not drawn again" if summary["drawn_before"] else ""
        expected = f"expected {summary['expected']:.0f}, 95 % range {summary['low']} to {summary['high']}"
        console.print(f"Drew {summary['drawn']:,} of {summary['frame']:,} decisions ({expected}{before}).", markup=False, soft_wrap=True)
        table = Table("category", "zone", *(Column(name, justify="right") for name in ("posts", "needs", "gets", "new")))
        for part in summary["allocation"]:
            needs = "-" if part["wanted"] is None else f"{part['wanted']:,}"
            numbers = (f"{part['posts']:,}", needs, f"{part['labels']:.0f}", f"{part['drawn']:,}")
            table.add_row(escape(visible(part["category"])), NAMES[part["zone"]], *numbers)
        console.print(table)
        console.print("posts: decisions in the zone; needs, gets: labels, earlier draws included; new: drawn now. What the labels buy:")
        for part in summary["allocation"]:
            line = Text(f"{visible(part['category'])}, {NAMES[part['zone']]}: {part['reason']}")
            console.print(Padding(line, (0, 0, 0, 2), expand=False), highlight=False)
    queues = ", ".join(f"{visible(name)} {num}" for name, num in summary["languages"].items())
    console.print(f"Reviewers needed by language: {queues}.", markup=False, soft_wrap=True)
    console.print(f"Draw: {summary['draw']}\nPlan: {summary['out']}", markup=False, highlight=False, soft_wrap=True)
