"""Posts that a person should look at: the surest mistakes of each category, by id, with their text only where it was asked for."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from upheld.evaluation.cube.bins import bin_of
from upheld.evaluation.thresholds.operating_point import OperatingPoint

NUM_LISTED = 5  # of each kind
MAX_ROWS = 1_000_000  # of a table whose rows are read once more for this; a longer one is no table that people look through


def pick(
    rows: pd.DataFrame, points: Mapping[str, OperatingPoint], texts: "pd.Series[Any] | None" = None
) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """The surest mistakes.

    Args:
        rows: item_id, category, language, prob (calibrated, float64 in [0, 1]) and label (0, 1 or null; null rows are left out).
        points: operating points; flagged is what is reviewed or removed.
        texts: text by item_id (str), None where texts are not to be shown.

    Returns:
        {category: {"flagged": harmless posts that were flagged, highest probability first, "missed": violations that were not, lowest
        first}}, NUM_LISTED of each: {item_id, language, prob, text}; text is None where it is not shown or not known.
    """
    known = rows[rows.label.notna()]
    found = {}
    for category, own in known.groupby("category", observed=True):
        order = own.assign(item_id=own.item_id.astype(str)).sort_values(["prob", "item_id"], kind="stable")
        flagged = bin_of(order.prob) >= points[str(category)].cuts[0]
        wrong, missed = order[(order.label == 0) & flagged], order[(order.label == 1) & ~flagged]
        found[str(category)] = {"flagged": _listed(wrong.iloc[::-1], texts), "missed": _listed(missed, texts)}
    return found


def _listed(rows: pd.DataFrame, texts: "pd.Series[Any] | None") -> list[dict[str, Any]]:
    shown = rows.head(NUM_LISTED)
    said = [None] * len(shown) if texts is None else [texts.get(name) for name in shown.item_id]
    columns = zip(shown.item_id, shown.language.astype(str), shown.prob.astype(float), said, strict=True)
    return [
        {"item_id": name, "language": language, "prob": prob, "text": None if pd.isna(text) else str(text)}
        for name, language, prob, text in columns
    ]
