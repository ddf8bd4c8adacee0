"""What a draw tells people: what each zone's labels buy, how many were drawn, and whose language they are in."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from upheld.common.terminal import visible
from upheld.evaluation.audit.design import Part
from upheld.evaluation.audit.sampling import ZONES

NAMES = {"auto_remove": "removed", "review": "queued", "none": "passed"}


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


def show(told: Mapping[str, Any], console: Console) -> None:
    """Print what the draw was, out of `describe` with draw, again and out; of a new one also allocation, expected, low, high, frame and
    drawn_before."""
    if told["again"]:
        zones = ", ".join(f"{num:,} {NAMES[zone]}" for zone, num in told["zones"].items() if num)
        console.print(f"The draw of {told['draw']} again: {told['drawn']:,} posts ({zones}).", markup=False, soft_wrap=True)
    else:
        _show_new(told, console)
    queues = ", ".join(f"{visible(name)} {num}" for name, num in told["languages"].items())
    console.print(f"Reviewers needed by language: {queues}.", markup=False, soft_wrap=True)
    console.print(f"Draw: {told['draw']}\nPlan: {told['out']}", markup=False, highlight=False, soft_wrap=True)


def _show_new(told: Mapping[str, Any], console: Console) -> None:
    before = f"; {told['drawn_before']:,} were drawn before and are not drawn again" if told["drawn_before"] else ""
    expected = f"expected {told['expected']:.0f}, 95 % range {told['low']} to {told['high']}"
    console.print(f"Drew {told['drawn']:,} of {told['frame']:,} decisions ({expected}{before}).", markup=False, soft_wrap=True)
    table = Table("category", "zone", *(Column(name, justify="right") for name in ("posts", "needs", "gets", "new")))
    for part in told["allocation"]:
        needs = "-" if part["wanted"] is None else f"{part['wanted']:,}"
        numbers = (f"{part['posts']:,}", needs, f"{part['labels']:.0f}", f"{part['drawn']:,}")
        table.add_row(escape(visible(part["category"])), NAMES[part["zone"]], *numbers)
    console.print(table)
    console.print("posts: decisions in the zone; needs, gets: labels, earlier draws included; new: drawn now. What the labels buy:")
    for part in told["allocation"]:
        line = Text(f"{visible(part['category'])}, {NAMES[part['zone']]}: {part['reason']}")
        console.print(Padding(line, (0, 0, 0, 2), expand=False), highlight=False)
