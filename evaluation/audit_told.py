"""What a draw tells people: what each zone's labels buy, how many were drawn, and whose language they are in."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from evaluation.allocation import Part
from evaluation.sampling import ZONES
from feature_store.terminal import visible

NAMES = {"auto_remove": "removed", "review": "queued", "none": "passed"}


def describe(plan: pd.DataFrame, parts: Sequence[Part]) -> dict[str, Any]:
    """The plan in numbers.

    Returns:
        {drawn, zones: {zone: n}, languages: {language: n} (each reads as one queue of reviewers of that language), allocation: [{category,
        zone, posts, wanted, labels, drawn, reason}]}; `labels` is an expectation that counts earlier draws, `drawn` is new.
    """
    new = plan.groupby(["category", "zone"]).size()
    return {
        "drawn": len(plan),
        "zones": {zone: int((plan.zone == zone).sum()) for zone in ZONES},
        "languages": {str(name): int(num) for name, num in plan.language.value_counts().items()},
        "allocation": [{**part._asdict(), "drawn": int(new.get((part.category, part.zone), 0))} for part in parts],
    }


def show(told: Mapping[str, Any], console: Console) -> None:
    """Print what `describe` returned, with out, expected, low, high, frame and drawn_before of the draw."""
    before = f"; {told['drawn_before']} were drawn before and are not drawn again" if told["drawn_before"] else ""
    expected = f"expected {told['expected']:.0f}, 95 % range {told['low']} to {told['high']}"
    console.print(f"Drew {told['drawn']} of {told['frame']} decisions ({expected}{before}).", markup=False, soft_wrap=True)
    table = Table("category", "zone", "posts", "wanted", "labels", "new", "what they buy")
    for part in told["allocation"]:
        wanted = "-" if part["wanted"] is None else f"{part['wanted']:,}"
        numbers = (f"{part['posts']:,}", wanted, f"{part['labels']:.0f}", f"{part['drawn']:,}")
        table.add_row(escape(visible(part["category"])), NAMES[part["zone"]], *numbers, part["reason"])
    console.print(table)
    queues = ", ".join(f"{visible(name)} {num}" for name, num in told["languages"].items())
    console.print(f"Reviewers needed by language: {queues or 'none'}.\nPlan: {told['out']}", markup=False, soft_wrap=True)
