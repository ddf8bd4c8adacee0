"""What must hold for a photo and a box before a detector learns from them or is measured by them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from upheld.common.params.logos import LogoData
from upheld.feature_store.logos.dataset.boxes import MIN_OVERLAP, overlaps
from upheld.feature_store.logos.sources.source import Corners


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


def same_marks(ones: Sequence[tuple[str, Corners]], others: Sequence[tuple[str, Corners]]) -> bool:
    """True if two people who drew these boxes meant the same marks: one to one, of equal brands and at least MIN_OVERLAP alike."""
    left = list(others)
    for brand, corners in ones:
        places = [place for place, (name, _) in enumerate(left) if name == brand]
        alike = overlaps([corners], [left[place][1] for place in places])[0]
        best, place = max(zip(alike, places, strict=True), default=(0.0, -1))
        if best < MIN_OVERLAP:
            return False
        left.pop(place)
    return not left


def _said(corners: Corners) -> str:
    return ", ".join(f"{corner:.6g}" for corner in corners)
