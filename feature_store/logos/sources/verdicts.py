"""What reviewers agree on: outcomes on logo boxes, as marks and as regions that are none."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pandas as pd

from upheld.feature_store.logos.dataset.boxes import MIN_OVERLAP, overlaps
from upheld.feature_store.logos.dataset.dataset import CORNERS

POSITIVE: Final = ("confirmed", "missed")  # a mark is there; `wrong`: the detector saw this brand where it is not


def agreed(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Outcomes on one region put together: the majority says whether the mark is there, a tie says nothing.

    Args:
        outcomes: latest revisions: digest, brand, x1, y1, x2, y2, verdict (confirmed, wrong, missed), reviewed_at, outcome_id.

    Returns:
        digest, brand, x1, y1, x2, y2 (medians of those who were of the majority), is_mark (bool; null at a tie), num_outcomes.
    """
    ordered = outcomes.sort_values(["digest", "brand", "reviewed_at", "outcome_id"])
    regions = [
        {"digest": digest, "brand": brand} | _verdict(region)
        for (digest, brand), rows in ordered.groupby(["digest", "brand"])
        for region in _regions(rows)
    ]
    return pd.DataFrame(regions, columns=["digest", "brand", *CORNERS, "is_mark", "num_outcomes"])


def _regions(rows: pd.DataFrame) -> Iterator[list[Any]]:
    """Outcomes of one photo and brand, those together whose boxes agree with the first of them."""
    regions: list[list[Any]] = []
    for row in rows.itertuples():
        alike = overlaps([_box(region[0]) for region in regions], [_box(row)])[:, 0] >= MIN_OVERLAP
        if alike.any():
            regions[alike.argmax()].append(row)
        else:
            regions.append([row])
    yield from regions


def _box(row: Any) -> tuple[float, float, float, float]:
    return row.x1, row.y1, row.x2, row.y2


def _verdict(region: list[Any]) -> dict[str, Any]:
    marks = [row for row in region if row.verdict in POSITIVE]
    others = [row for row in region if row.verdict not in POSITIVE]
    majority = marks if len(marks) > len(others) else others
    corners = np.median([_box(row) for row in majority or region], axis=0).tolist()
    is_mark = None if len(marks) == len(others) else len(marks) > len(others)
    return dict(zip(CORNERS, corners, strict=True)) | {"is_mark": is_mark, "num_outcomes": len(region)}
