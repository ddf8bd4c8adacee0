"""Brands that the detector knows from composites alone: are they found on real photos better than by luck?"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from upheld.evaluation.logos.metrics import NUM_RESAMPLES, ends, resampled, table_of
from upheld.feature_store.logos.dataset.precision import average_precision

NUM_PERMUTATIONS = 200
COMPOSITE = "composite"


def brands_of(boxes: pd.DataFrame) -> tuple[str, ...]:
    """Brands with composites and no real box to learn from, and real boxes to test with.

    Args:
        boxes: brand, split, source of the whole dataset.

    Returns:
        by name.
    """
    pasted = boxes["source"] == COMPOSITE
    learnt, tested = boxes["split"] == "train", boxes["split"] == "test"
    only = set(boxes.loc[pasted & learnt, "brand"]) - set(boxes.loc[~pasted & learnt, "brand"])
    return tuple(sorted(only & set(boxes.loc[~pasted & tested, "brand"])))


def compute(photos: pd.DataFrame, marks: pd.DataFrame, finds: pd.DataFrame, brands: Sequence[str], alpha: float, seed: int) -> pd.DataFrame:
    """Average precision of such brands on real photos, beside what luck gives.

    Args:
        photos: image, group_id, source of the photos of split test; composites are left out.
        marks: image, brand, x1, y1, x2, y2 in pixels.
        finds: the same and confidence, of every brand.
        brands: from `brands_of`.
        alpha: two-sided error of the intervals.
        seed: of the resampling and of the permutations.

    Returns:
        three rows a brand in the columns of metrics.parquet: one_shot_ap_50 (interval over groups of photos); one_shot_chance, the mean
        of the same figure with the detections' brands permuted among them (interval: of the permutations); one_shot_p, the share of
        permutations that reach the figure.

    Source: Phipson & Smyth (2010), p-values of permutations are never zero: (1 + reached) / (1 + permutations).
    """
    real = photos[photos["source"] != COMPOSITE]
    own = marks[marks["image"].isin(real["image"]) & marks["brand"].isin(list(brands))]
    seen = finds[finds["image"].isin(real["image"])].reset_index(drop=True)
    if not brands:
        return table_of([])
    value = _at_50(real["image"].tolist(), own, seen, brands)
    drawn = [_at_50(*resampled(real, own, seen, [seed, number]), brands) for number in range(NUM_RESAMPLES)]
    lucky = np.stack([_at_50(real["image"].tolist(), own, _permuted(seen, [seed, number]), brands) for number in range(NUM_PERMUTATIONS)])
    rows = []
    for place, brand in enumerate(brands):
        count = int((own["brand"] == brand).sum())
        known = [float(figure[place]) for figure in drawn if np.isfinite(figure[place])]
        low, high = ends(lucky[:, place].tolist(), alpha)
        reached = (1 + int((lucky[:, place] >= value[place]).sum())) / (1 + NUM_PERMUTATIONS)
        rows.append(("brand", brand, "one_shot_ap_50", float(value[place]), *ends(known, alpha), count, ""))
        rows.append(("brand", brand, "one_shot_chance", float(lucky[:, place].mean()), low, high, count, ""))
        rows.append(("brand", brand, "one_shot_p", reached, None, None, count, ""))
    return table_of(rows)


def _at_50(photos: Sequence[str], marks: pd.DataFrame, finds: pd.DataFrame, brands: Sequence[str]) -> NDArray[np.float64]:
    return average_precision(photos, marks, finds, brands).at[0, :, 0]


def _permuted(finds: pd.DataFrame, seed: list[int]) -> pd.DataFrame:
    """The detections with their brands shuffled: as many of each brand, in the same places and as sure, but by luck."""
    order = np.random.default_rng(seed).permutation(len(finds))
    return finds.assign(brand=finds["brand"].to_numpy(object)[order])
