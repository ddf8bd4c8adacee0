"""Which detections are marks: matching by overlap, and the table of scores that certificates and rates are computed from."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from upheld.common.arrays import Floats
from upheld.feature_store.logos.dataset.boxes import MIN_OVERLAP, overlaps
from upheld.feature_store.logos.dataset.dataset import CORNERS

CATEGORY = "logo"
OF_SPLIT = {"val": "calib", "test": "test"}


def match(marks: pd.DataFrame, finds: pd.DataFrame) -> pd.DataFrame:
    """Give each detection the mark that it hits.

    Args:
        marks: image, brand, x1, y1, x2, y2 in pixels.
        finds: the same and confidence.

    Returns:
        `finds` in order of image and falling confidence, with `mark` (row number in `marks` of the same brand, each taken once by the
        surest detection; -1 where there is none) and `over` (brand of the mark of any brand that it overlaps most; null where none).
    """
    ordered = finds.sort_values(["image", "confidence"], ascending=[True, False], kind="stable", ignore_index=True)
    of_image = marks.reset_index(drop=True).groupby("image").indices
    hit, over = np.full(len(ordered), -1), np.full(len(ordered), None, object)
    for image, rows in ordered.groupby("image").indices.items():
        places = np.asarray(of_image.get(image, []), np.int64)
        overlap = overlaps(ordered.iloc[rows][list(CORNERS)], marks.iloc[places][list(CORNERS)])
        brands = marks["brand"].to_numpy()[places]
        hit[rows], over[rows] = _take(overlap, ordered["brand"].to_numpy()[rows], brands, places)
    return ordered.assign(mark=hit, over=over)


def _take(
    overlap: Floats, found: NDArray[np.object_], brands: NDArray[np.object_], places: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.object_]]:
    taken = np.zeros(len(places), bool)
    hit, over = np.full(len(found), -1), np.full(len(found), None, object)
    for row in range(len(found)):
        if len(places) and overlap[row].max() >= MIN_OVERLAP:
            over[row] = brands[overlap[row].argmax()]
        free = np.where((brands == found[row]) & ~taken, overlap[row], 0.0)
        if len(places) and free.max() >= MIN_OVERLAP:
            taken[free.argmax()] = True
            hit[row] = places[free.argmax()]
    return hit, over


def scores(matched: pd.DataFrame, split_of: pd.Series, synthetic: bool) -> pd.DataFrame:
    """Detections as rows of the scores contract: is this detection, of this confidence, a mark of its brand?

    Args:
        matched: from `match`.
        split_of: image -> val or test.
        synthetic: whether the photos come from a generator of ours.

    Returns:
        item_id, category, language (`und`), score, label, inclusion_prob (1: every detection was judged), zone, split, brand, synthetic.
    """
    rank = matched.groupby("image").cumcount().astype(str)
    return pd.DataFrame(
        {
            "item_id": matched["image"] + "/" + rank,
            "category": CATEGORY,
            "language": "und",
            "score": matched["confidence"].clip(0, 1),
            "label": (matched["mark"] >= 0).astype(float),
            "inclusion_prob": 1.0,
            "zone": "none",
            "split": matched["image"].map(split_of).map(OF_SPLIT),
            "brand": matched["brand"],
            "synthetic": synthetic,
        }
    )


def confusion(marks: pd.DataFrame, matched: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """Counts of what was said of what.

    Args:
        marks: what is there: image, brand, x1, y1, x2, y2.
        matched: from `match` with these marks.
        threshold: detections below do not count.

    Returns:
        mark (the brand that is there; null: nothing is), said (the brand of the detection; null: the mark was not found as what it is),
        count; by mark and said. A mark that was taken for another brand only is in two rows: as that brand, and as not found.
    """
    kept = matched[matched["confidence"] >= threshold]
    said = pd.DataFrame({"mark": kept["over"], "said": kept["brand"]}, dtype="str")
    missed = marks["brand"].reset_index(drop=True).drop(index=kept.loc[kept["mark"] >= 0, "mark"].tolist())
    rows = pd.concat([said, pd.DataFrame({"mark": missed, "said": None}, dtype="str")])
    return rows.groupby(["mark", "said"], dropna=False).size().rename("count").reset_index()
