"""Logo metrics against counts made by hand, and an average precision computed another way."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom, poisson

from upheld.evaluation.logos import metrics as logo_metrics
from upheld.feature_store.logos.dataset.precision import average_precision

BRANDS = ["a", "b", "c"]


@pytest.fixture(scope="module")
def world() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """60 photos, 40 with one mark of a or b; detections that are mostly right."""
    random = np.random.default_rng(5)
    images = [f"p{number:02d}" for number in range(60)]
    photos = pd.DataFrame({"image": images, "group_id": [f"g{number // 2}" for number in range(60)]})
    sides = random.uniform(20, 150, 40)
    marks = pd.DataFrame(
        {"image": images[:40], "brand": random.choice(["a", "b"], 40), "x1": 5.0, "y1": 7.0, "x2": 5 + sides, "y2": 7 + sides}
    )
    right = marks.assign(confidence=random.uniform(0.3, 1, 40))[random.random(40) < 0.8]
    wrong = marks.assign(confidence=random.uniform(0.2, 0.8, 40), x1=300.0, x2=340.0, image=images[20:])[random.random(40) < 0.5]
    return photos, marks, pd.concat([right, wrong], ignore_index=True)


@pytest.fixture(scope="module")
def table(world) -> pd.DataFrame:
    return logo_metrics.compute(*world, BRANDS, 0.5, 0.1, 1).set_index(["group_column", "group_value", "metric"])


def interpolated(hits: np.ndarray, total: int) -> float:
    """101 recalls, the best precision at each or beyond it."""
    found = hits.cumsum()
    recall, precision = found / total, found / np.arange(1, len(hits) + 1)
    return float(np.mean([precision[recall >= level].max() if (recall >= level).any() else 0 for level in np.linspace(0, 1, 101)]))


def test_average_precision_is_the_area_by_hand(world) -> None:
    photos, marks, finds = world
    at = average_precision(photos["image"].tolist(), marks, finds, BRANDS).at
    for place, brand in enumerate(["a", "b"]):
        ordered = finds[finds["brand"] == brand].sort_values("confidence", ascending=False)
        assert at[0, place, 0] == pytest.approx(interpolated((ordered["x1"] < 100).to_numpy(), (marks["brand"] == brand).sum()), abs=0.01)
    assert np.isnan(at[:, 2, 0]).all()  # c has no mark: undefined, not 0


def test_missing_evidence_is_said(table) -> None:
    assert table.loc[("brand", "c", "ap_50"), "reason"] == "no mark"
    assert pd.isna(table.loc[("brand", "c", "recall"), "value"])


def test_rates_and_their_exact_intervals(world, table) -> None:
    _, marks, finds = world
    kept = finds[finds["confidence"] >= 0.5]
    events, trials = int((kept["x1"] < 100).sum()), len(kept)
    row = table.loc[("all", "all", "precision")]
    assert (row["value"], row["n"]) == (events / trials, trials)
    assert binom.sf(events - 1, trials, row["ci_low"]) == pytest.approx(0.05, abs=1e-6)
    assert binom.cdf(events, trials, row["ci_high"]) == pytest.approx(0.05, abs=1e-6)
    assert table.loc[("all", "all", "recall"), "n"] == len(marks)


def test_false_alarms_are_counted_on_photos_without_marks(world, table) -> None:
    photos, marks, finds = world
    bare = set(photos["image"]) - set(marks["image"])
    alarms = int((finds["image"].isin(bare) & (finds["confidence"] >= 0.5)).sum())
    row = table.loc[("all", "all", "false_alarms_per_1000")]
    assert row["value"] == pytest.approx(alarms / len(bare) * 1000)
    assert poisson.sf(alarms - 1, row["ci_low"] * len(bare) / 1000) == pytest.approx(0.05, abs=1e-6)
    assert poisson.cdf(alarms, row["ci_high"] * len(bare) / 1000) == pytest.approx(0.05, abs=1e-6)


def test_intervals_hold_their_value(table) -> None:
    known = table[table["value"].notna() & table["ci_low"].notna()]
    assert (known["ci_low"] <= known["value"] + 1e-9).all() and (known["value"] <= known["ci_high"] + 1e-9).all()
    pooled = table.loc[("all", "all", "map_50")]
    assert 0.02 < pooled["ci_high"] - pooled["ci_low"] < 0.5


def test_nothing_found_is_a_precision_of_zero() -> None:
    photos = pd.DataFrame({"image": ["p"], "group_id": ["g"]})
    marks = pd.DataFrame({"image": ["p"], "brand": ["a"], "x1": 0.0, "y1": 0.0, "x2": 50.0, "y2": 50.0})
    nothing = marks.iloc[:0].assign(confidence=pd.Series(dtype=float))
    table = logo_metrics.compute(photos, marks, nothing, ["a"], 0.5, 0.1, 1).set_index(["group_column", "metric"])
    assert table.loc[("all", "map_50"), "value"].item() == 0.0
    assert pd.isna(table.loc[("all", "precision"), "value"].item())


def test_marks_that_are_all_found_have_no_interval() -> None:
    """Resampling them gives 1 each time: three marks would look like certainty."""
    marks = pd.DataFrame([(f"p{n}", "a", 0.0, 0.0, 50.0, 50.0) for n in range(3)], columns=["image", "brand", "x1", "y1", "x2", "y2"])
    photos = pd.DataFrame({"image": ["p0", "p1", "p2"], "group_id": ["p0", "p1", "p2"]})
    table = logo_metrics.compute(photos, marks, marks.assign(confidence=0.9), ["a"], 0.5, 0.05, seed=0)
    row = table[(table.group_column == "brand") & (table.metric == "ap_50")].iloc[0]
    assert row["value"] == pytest.approx(1) and pd.isna(row["ci_low"]) and pd.isna(row["ci_high"])
    assert row["reason"] == "no interval from 3 marks"
