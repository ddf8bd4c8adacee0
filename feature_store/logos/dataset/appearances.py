"""What detections say of an image: how often a brand is on it, how surely, and how much of it the brand takes up."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

CORNERS = ("x1", "y1", "x2", "y2")


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
