"""How good a logo detector is: COCO's precision per brand and size with intervals, rates at the threshold in force, false alarms."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import gamma

from upheld.evaluation.logos.matches import CATEGORY, match
from upheld.evaluation.metrics.rows import ALL, COLUMNS
from upheld.evaluation.statistics.intervals import clopper_pearson
from upheld.feature_store.logos.dataset.dataset import CORNERS
from upheld.feature_store.logos.dataset.precision import SIZES, average_precision

NUM_RESAMPLES = 200  # of photos; the interval's ends then wobble by about a fifth of their distance from the middle
PER = 1000  # photos
NUM_PERMUTATIONS = 200
COMPOSITE = "composite"


def compute(
    photos: pd.DataFrame, marks: pd.DataFrame, finds: pd.DataFrame, brands: Sequence[str], threshold: float, alpha: float, seed: int
) -> pd.DataFrame:
    """Every metric, one row each, in the columns of metrics.parquet.

    Args:
        photos: image, group_id of every photo looked at.
        marks: image, brand, x1, y1, x2, y2 in pixels.
        finds: the same and confidence.
        brands: every brand of the detector.
        threshold: confidence from which a detection counts.
        alpha: two-sided error of the intervals.
        seed: of the resampling.

    Returns:
        rows with category `logo`, language `all`; group_column `brand` or `size` or `all`.
    """
    rows = list(_precision_rows(photos, marks, finds, brands, alpha, seed))
    # Precision of the detections from the threshold on, and the share of marks that they found.
    kept = match(marks, finds[finds["confidence"] >= threshold])
    hits = kept["mark"] >= 0
    cells = [(ALL, ALL, kept["brand"].notna(), len(marks))]
    cells += [("brand", brand, kept["brand"] == brand, int((marks["brand"] == brand).sum())) for brand in brands]
    for column, value, of_cell, num_marks in cells:
        found, num_detections = int(hits[of_cell].sum()), int(of_cell.sum())
        rows.append(_rate(column, value, "precision", found, num_detections, alpha, "no detection"))
        rows.append(_rate(column, value, "recall", found, num_marks, alpha, "no mark"))
    # Detections on photos without any mark, per 1,000 of them; exact Poisson interval (Garwood 1936).
    bare = photos.loc[~photos["image"].isin(marks["image"]), "image"]
    alarms = int((finds["image"].isin(bare) & (finds["confidence"] >= threshold)).sum())
    if bare.empty:
        rows.append((ALL, ALL, "false_alarms_per_1000", None, None, None, 0, "no photo without a logo"))
    else:
        low = gamma.ppf(alpha / 2, alarms) if alarms else 0.0
        high, factor = gamma.ppf(1 - alpha / 2, alarms + 1), PER / len(bare)
        rows.append((ALL, ALL, "false_alarms_per_1000", alarms * factor, float(low) * factor, float(high) * factor, len(bare), ""))
    return table_of(rows)


Row = tuple[str, str, str, float | None, float | None, float | None, int, str]


def table_of(rows: Sequence[Row]) -> pd.DataFrame:
    """Rows of group_column, group_value, metric, value, ci_low, ci_high, n and reason in the columns of metrics.parquet."""
    table = pd.DataFrame(rows, columns=["group_column", "group_value", "metric", "value", "ci_low", "ci_high", "n", "reason"])
    reason = table["reason"].astype(object).where(table["reason"] != "", None)
    full = table.assign(category=CATEGORY, language=ALL, n_eff=table["n"].astype(float), verdict=None, need_n=None, reason=reason)
    return full[COLUMNS]


def _precision_rows(
    photos: pd.DataFrame, marks: pd.DataFrame, finds: pd.DataFrame, brands: Sequence[str], alpha: float, seed: int
) -> Iterator[Row]:
    """mAP, its value per brand and per size of the mark. Only photos are resampled, whole groups of near-duplicates at a time."""
    whole = average_precision(photos["image"].tolist(), marks, finds, brands)
    num_marks = marks["brand"].value_counts()
    drawn = [average_precision(*resampled(photos, marks, finds, [seed, number]), brands).at for number in range(NUM_RESAMPLES)]
    for name, iou_50 in (("map_50", True), ("map_50_95", False)):
        low, high = ends([_mean(table, iou_50) for table in drawn], alpha)
        yield ALL, ALL, name, whole.mean(iou_50), low, high, len(marks), "" if len(marks) else "no mark"
    for place, brand in enumerate(brands):
        value = _finite(whole.at[0, place, 0])
        count = int(num_marks.get(brand, 0))
        spread = _spread([_finite(table[0, place, 0]) for table in drawn], alpha, count)
        yield "brand", brand, "ap_50", value, spread[0], spread[1], count, spread[2]
    area = (marks["x2"] - marks["x1"]) * (marks["y2"] - marks["y1"])
    inside = {"small": area < 32**2, "medium": (area >= 32**2) & (area < 96**2), "large": area >= 96**2}
    for size in SIZES[1:]:
        count = int(inside[size].sum())
        spread = _spread([_mean(table[..., SIZES.index(size)][..., None], True) for table in drawn], alpha, count)
        yield "size", size, "map_50", whole.mean(True, size), spread[0], spread[1], count, spread[2]


def resampled(
    photos: pd.DataFrame, marks: pd.DataFrame, finds: pd.DataFrame, seed: list[int]
) -> tuple[list[str], pd.DataFrame, pd.DataFrame]:
    """Draw groups of photos with replacement; a photo drawn twice is two photos.

    Args:
        photos: image, group_id.
        marks, finds: of `compute`.
        seed: of numpy's generator; an equal seed draws the same groups.

    Returns:
        names of the photos drawn, and their marks and finds.
    """
    random = np.random.default_rng(seed)
    groups = photos["group_id"].unique()
    drawn = pd.DataFrame({"group_id": random.choice(groups, len(groups)), "copy": np.arange(len(groups)).astype(str)})
    chosen = drawn.merge(photos, on="group_id")
    chosen["name"] = chosen["image"] + "#" + chosen["copy"]
    names = chosen[["image", "name"]]
    copies = [table.merge(names, on="image").drop(columns="image").rename(columns={"name": "image"}) for table in (marks, finds)]
    return chosen["name"].tolist(), copies[0], copies[1]


def _mean(table: NDArray[np.float64], iou_50: bool) -> float | None:
    cells = table[: 1 if iou_50 else None, :, 0]
    return float(np.nanmean(cells)) if np.isfinite(cells).any() else None


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _spread(values: Sequence[float | None], alpha: float, num_marks: int) -> tuple[float | None, float | None, str]:
    """Interval, or why there is none: marks that are all found, or all missed, are so in every resample, which says nothing of spread."""
    low, high = ends(values, alpha)
    if not num_marks:
        return None, None, "no mark"
    if low == high:
        return None, None, f"no interval from {num_marks} mark{'s' if num_marks > 1 else ''}"
    return low, high, ""


def ends(values: Sequence[float | None], alpha: float) -> tuple[float | None, float | None]:
    """Percentile interval (Efron 1979) of the resamples in which the figure is defined."""
    known = [value for value in values if value is not None]
    if not known:
        return None, None
    low, high = np.quantile(known, [alpha / 2, 1 - alpha / 2])
    return float(low), float(high)


def _rate(column: str, value: str, metric: str, events: int, trials: int, alpha: float, missing: str) -> Row:
    if not trials:
        return column, value, metric, None, None, None, 0, missing
    low, high = clopper_pearson(events, trials, alpha)
    return column, value, metric, events / trials, float(low), float(high), trials, ""


def boxes_of(table: pd.DataFrame) -> pd.DataFrame:
    """Boxes of a logo dataset as this module reads them: image instead of digest."""
    return table.rename(columns={"digest": "image"})[["image", "brand", *CORNERS]].reset_index(drop=True)


def one_shot_brands(boxes: pd.DataFrame) -> tuple[str, ...]:
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


def one_shot(
    photos: pd.DataFrame, marks: pd.DataFrame, finds: pd.DataFrame, brands: Sequence[str], alpha: float, seed: int
) -> pd.DataFrame:
    """Average precision of such brands on real photos, beside what luck gives.

    Args:
        photos: image, group_id, source of the photos of split test; composites are left out.
        marks: image, brand, x1, y1, x2, y2 in pixels.
        finds: the same and confidence, of every brand.
        brands: from `one_shot_brands`.
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
    by_luck = []
    for number in range(NUM_PERMUTATIONS):  # as many detections of each brand, in the same places and as sure, but by luck
        order = np.random.default_rng([seed, number]).permutation(len(seen))
        by_luck.append(_at_50(real["image"].tolist(), own, seen.assign(brand=seen["brand"].to_numpy(object)[order]), brands))
    lucky = np.stack(by_luck)
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
