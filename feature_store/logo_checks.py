"""What must hold for a photo and a box before a detector learns from them or is measured by them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from feature_store.logo_source import Corners
from feature_store.params_logo import LogoData

MIN_AGREEMENT: Final = 0.5  # intersection over union from which two boxes are of one mark, as detections are judged


@dataclass(frozen=True)
class Rejected:
    """Why a box is not taken: a code, and what was found."""

    reason: str
    detail: str


def judge_box(corners: Corners, width: int, height: int, rules: LogoData) -> Corners | Rejected:
    """Judge one box, and clip what reaches over the photo's border by rounding alone.

    Args:
        corners: x1, y1, x2, y2 in pixels of the upright photo, any numbers.
        width, height: of the photo, pixels.
        rules: section `logo_data`.

    Returns:
        the box inside the photo, or why it is none: `box_not_finite`, `box_degenerate` (no area), `box_outside`, `box_too_small`.
    """
    x1, y1, x2, y2 = corners
    if not all(map(math.isfinite, corners)):
        return Rejected("box_not_finite", f"corners {_said(corners)}: expected numbers")
    if x2 <= x1 or y2 <= y1:
        return Rejected("box_degenerate", f"corners {_said(corners)}: expected x1 < x2 and y1 < y2")
    beyond = max(-x1, -y1, x2 - width, y2 - height)
    if beyond > rules.max_outside_px:
        return Rejected("box_outside", f"corners {_said(corners)}: {beyond:.1f} pixels outside a photo of {width} x {height}")
    inside = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
    side = min(inside[2] - inside[0], inside[3] - inside[1])
    if side < rules.min_side_px:
        return Rejected("box_too_small", f"corners {_said(corners)}: a side of {side:.2f} pixels, at least {rules.min_side_px}")
    return inside


def judge_size(claimed: tuple[int, int] | None, size: tuple[int, int]) -> Rejected | None:
    """Say what is wrong if labels were drawn on a photo of another size, or on the same one lying on its side."""
    if claimed is None or claimed == size:
        return None
    return Rejected("size_mismatch", f"labels are for {claimed[0]} x {claimed[1]} pixels, the photo has {size[0]} x {size[1]}")


def intersection_over_union(one: Corners, other: Corners) -> float:
    """Area that two boxes share, over the area that they cover together; 0 to 1.

    Source: Jaccard index; Everingham et al. (2010), The Pascal Visual Object Classes Challenge, section 4.4.
    """
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1]) - shared)


def same_marks(ones: Sequence[tuple[str, Corners]], others: Sequence[tuple[str, Corners]]) -> bool:
    """True if two people who drew these boxes meant the same marks: one to one, of equal brands and at least MIN_AGREEMENT alike."""
    left = list(others)
    for brand, corners in ones:
        alike = [(intersection_over_union(corners, box), place) for place, (name, box) in enumerate(left) if name == brand]
        best, place = max(alike, default=(0.0, -1))
        if best < MIN_AGREEMENT:
            return False
        left.pop(place)
    return not left


def _said(corners: Corners) -> str:
    return ", ".join(f"{corner:.6g}" for corner in corners)
