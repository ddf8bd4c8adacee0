"""Average precision of detections, by COCO's own code (pycocotools)."""

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from upheld.feature_store.logos.dataset.dataset import CORNERS

MAX_DETECTIONS = 100  # a photo; COCO's own bound
SIZES = ("all", "small", "medium", "large")  # by area in pixels: below 32 x 32, below 96 x 96, above; COCO's own bounds


@dataclass(frozen=True)
class AveragePrecision:
    """Areas under precision and recall; NaN where a class has no mark of that size.

    `at` float64 (10, C, 4): IoU .50, .55 … .95; class; size as in SIZES.
    """

    brands: tuple[str, ...]
    at: NDArray[np.float64]

    def mean(self, iou_50: bool, size: str = "all") -> float | None:
        """Mean over the classes that have marks, at IoU .5 or over all ten; None where none has."""
        cells = self.at[:1, :, SIZES.index(size)] if iou_50 else self.at[:, :, SIZES.index(size)]
        return float(np.nanmean(cells)) if np.isfinite(cells).any() else None


def average_precision(photos: Sequence[str], marks: pd.DataFrame, detections: pd.DataFrame, brands: Sequence[str]) -> AveragePrecision:
    """Match detections to marks and integrate precision over recall.

    Args:
        photos: names of all photos evaluated, those without marks included.
        marks: image, brand, x1, y1, x2, y2 in pixels: what is there.
        detections: the same and confidence: what was detected.
        brands: the C classes.

    Source: Lin et al. (2014), Microsoft COCO; 101-point interpolation as in pycocotools.
    """
    annotations = _annotations(marks, photos, brands)
    truth = COCO()
    truth.dataset = {
        "images": [{"id": number} for number in range(len(photos))],
        "categories": [{"id": number, "name": brand} for number, brand in enumerate(brands)],
        "annotations": annotations.assign(id=np.arange(1, len(annotations) + 1), iscrowd=0).to_dict("records"),
    }
    known = detections[detections["image"].isin(list(photos)) & detections["brand"].isin(list(brands))]
    results = _annotations(known, photos, brands).assign(score=known["confidence"].to_numpy())
    at = np.full((10, len(brands), len(SIZES)), np.nan)
    with redirect_stdout(io.StringIO()):  # it prints its own progress
        truth.createIndex()
        if len(results) and len(marks):
            evaluation = COCOeval(truth, truth.loadRes(results.to_dict("records")), "bbox")
            evaluation.params.maxDets = [MAX_DETECTIONS]
            evaluation.evaluate()
            evaluation.accumulate()
            precision = evaluation.eval["precision"][..., 0]  # IoU, recall, class, size; -1: no mark
            at = np.where((precision > -1).any(axis=1), precision.mean(axis=1), np.nan)
        elif len(marks):
            at[:, np.isin(brands, marks["brand"].unique()), 0] = 0.0
    return AveragePrecision(tuple(brands), at)


def _annotations(boxes: pd.DataFrame, photos: Sequence[str], brands: Sequence[str]) -> pd.DataFrame:
    """COCO's annotations: image_id, category_id, bbox [x, y, width, height], area."""
    x1, y1, x2, y2 = (boxes[corner].to_numpy(float) for corner in CORNERS)
    numbers = {name: number for number, name in enumerate(photos)}
    return pd.DataFrame(
        {
            "image_id": boxes["image"].map(numbers).to_numpy(),
            "category_id": boxes["brand"].map({brand: number for number, brand in enumerate(brands)}).to_numpy(),
            "bbox": np.stack([x1, y1, x2 - x1, y2 - y1], axis=1).tolist(),
            "area": (x2 - x1) * (y2 - y1),
        }
    )
