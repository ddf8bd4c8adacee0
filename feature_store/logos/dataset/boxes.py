"""Boxes: how much two have in common, which a detector may learn from or be measured by, and how much of an image they take up together."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from upheld.common.params.logos import LogoData

CORNERS: Final = ("x1", "y1", "x2", "y2")
MIN_OVERLAP: Final = 0.5  # from which two boxes are of one mark. Source: Everingham et al. (2010), section 4.2

Corners = tuple[float, float, float, float]  # x1, y1, x2, y2


def overlaps(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """Intersection over union: area that two boxes share, over the area that they cover together; 0 to 1.

    Source: Jaccard index; Everingham et al. (2010), The Pascal Visual Object Classes Challenge, section 4.4.

    Args:
        first, second: boxes x1 y1 x2 y2 with x1 < x2 and y1 < y2, (N, 4) and (M, 4); N or M may be 0.

    Returns:
        float64 (N, M).
    """
    ones, others = (np.asarray(boxes, np.float64).reshape(-1, 4) for boxes in (first, second))
    corner = np.maximum(ones[:, None, :2], others[None, :, :2])
    opposite = np.minimum(ones[:, None, 2:], others[None, :, 2:])
    common = np.prod((opposite - corner).clip(0), axis=2)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (ones, others)]
    return np.asarray(common / np.maximum(areas[0][:, None] + areas[1][None] - common, 1e-9), np.float64)


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

    Returns:
        the box inside the photo, or why it is none: `box_not_finite`, `box_degenerate` (no area), `box_outside`, `box_too_small`.
    """
    x1, y1, x2, y2 = corners
    if not all(map(math.isfinite, corners)):
        return Rejected("box_not_finite", f"corners {_text(corners)}: expected numbers")
    if x2 <= x1 or y2 <= y1:
        return Rejected("box_degenerate", f"corners {_text(corners)}: expected x1 < x2 and y1 < y2")
    beyond = max(-x1, -y1, x2 - width, y2 - height)
    if beyond > rules.max_outside_px:
        return Rejected("box_outside", f"corners {_text(corners)}: {beyond:.1f} pixels outside a photo of {width} x {height}")
    inside = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
    side = min(inside[2] - inside[0], inside[3] - inside[1])
    if side < rules.min_side_px:
        return Rejected("box_too_small", f"corners {_text(corners)}: a side of {side:.2f} pixels, at least {rules.min_side_px}")
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


def _text(corners: Corners) -> str:
    return ", ".join(f"{corner:.6g}" for corner in corners)


def per_image(detections: pd.DataFrame, sizes: pd.DataFrame, thresholds: Mapping[str, float]) -> pd.DataFrame:
    """Sum up the detections that count, by image and brand.

    Args:
        detections: image, brand, confidence in [0, 1], x1, y1, x2, y2 in pixels.
        sizes: image (unique), width, height in pixels; every image of `detections` is in it.
        thresholds: brand -> confidence from which a detection counts. A brand without one has no detections that count.

    Returns:
        image, brand, num_detections, max_confidence, area_share (of the image, in [0, 1]; overlaps count once), by image and brand.

    Raises:
        ValueError: an image has no size, or its size is not positive.
    """
    counted = detections[detections["confidence"] >= detections["brand"].map(thresholds).astype(float).fillna(np.inf)]
    rows = counted.merge(sizes[["image", "width", "height"]], on="image", how="left", validate="many_to_one")
    if not ((rows["width"] > 0) & (rows["height"] > 0)).all():
        unknown = rows.loc[~((rows["width"] > 0) & (rows["height"] > 0)), "image"].iloc[0]
        raise ValueError(f"image {unknown}: width and height must be known and positive")
    found = [
        {
            "image": image,
            "brand": brand,
            "num_detections": len(group),
            "max_confidence": float(group["confidence"].max()),
            "area_share": covered_share(group[list(CORNERS)].to_numpy(float), *group[["width", "height"]].to_numpy(float)[0]),
        }
        for (image, brand), group in rows.groupby(["image", "brand"], sort=True)
    ]
    return pd.DataFrame(found, columns=["image", "brand", "num_detections", "max_confidence", "area_share"])


def covered_share(boxes: NDArray[np.float64], width: float, height: float) -> float:
    """Share of an image that boxes cover together.

    Args:
        boxes: (n, 4) x1, y1, x2, y2 in pixels; what lies outside the image is left out.
        width, height: of the image, pixels, positive.

    Returns:
        in [0, 1].

    Source: area of a union of rectangles by coordinate compression (Bentley 1977, Klee's rectangle problem).
    """
    edges = np.clip(boxes, 0, [width, height, width, height])
    x, y = np.unique(edges[:, [0, 2]]), np.unique(edges[:, [1, 3]])
    if len(x) < 2 or len(y) < 2:
        return 0.0
    covered = np.zeros((len(x) - 1, len(y) - 1), dtype=bool)
    for x1, y1, x2, y2 in edges:
        covered[np.searchsorted(x, x1) : np.searchsorted(x, x2), np.searchsorted(y, y1) : np.searchsorted(y, y2)] = True
    return float(np.diff(x) @ covered @ np.diff(y) / (width * height))
