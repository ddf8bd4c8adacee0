"""Challenger against champion: against pairs counted one by one, the unpaired bootstrap, and simulation."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from upheld.evaluation.cube.bins import NUM_BINS, snap_up
from upheld.evaluation.metrics import paired
from upheld.evaluation.thresholds.operating_point import OperatingPoint

POINT = OperatingPoint(snap_up(0.5), NUM_BINS, frozenset(), "", "none")


def world(rng, num, noise_new=0.8, noise_old=0.8):
    label = (rng.random(num) < 0.3).astype(float)
    shared = rng.normal(label * 1.5, 1.0)
    new, old = (1 / (1 + np.exp(-(shared + rng.normal(0, noise, num)))) for noise in (noise_new, noise_old))
    return label, new, old


def test_auc_change_is_the_difference_of_the_two_areas() -> None:
    rng = np.random.default_rng(1)
    label, new, old = world(rng, 500)
    weight = rng.choice([1.0, 5.0], 500)
    change = paired.paired_auc(label, weight, new, old, 0.1)
    expected = roc_auc_score(label, new, sample_weight=weight) - roc_auc_score(label, old, sample_weight=weight)
    assert change.value == pytest.approx(expected, abs=1e-12)


def test_intervals_cover_no_change_and_are_narrower_than_unpaired_ones() -> None:
    rng = np.random.default_rng(2)
    hits, widths = [], []
    for _ in range(600):
        label, new, old = world(rng, 300)
        weight = rng.choice([1.0, 4.0], 300)
        flagged_new, flagged_old = (new > 0.5).astype(float), (old > 0.5).astype(float)
        change = paired.paired_auc(label, weight, new, old, 0.1)
        recall = paired.paired_rate(weight, flagged_new * label, label, flagged_old * label, label, 0.1)
        precision = paired.paired_rate(weight, flagged_new * label, flagged_new, flagged_old * label, flagged_old, 0.1)
        hits.append([part.ci_low <= 0 <= part.ci_high for part in (change, recall, precision)])
        widths.append(change.ci_high - change.ci_low)
    assert (np.mean(hits, axis=0) >= 0.86).all(), np.mean(hits, axis=0)
    single = 2 * 1.645 * np.sqrt(2) * 0.025  # two independent areas of this world, standard error about .025 each
    assert np.mean(widths) < single


def test_identical_models_do_not_differ() -> None:
    label, new, _ = world(np.random.default_rng(3), 200)
    change = paired.paired_auc(label, np.ones(200), new, new, 0.1)
    assert (change.value, change.ci_low, change.ci_high) == (0, 0, 0)


def test_few_rows_of_a_class_are_no_comparison() -> None:
    label = np.array([1.0] * 9 + [0.0] * 50)
    change = paired.paired_auc(label, np.ones(59), np.linspace(0, 1, 59), np.linspace(0, 1, 59), 0.1)
    assert np.isnan(change.value)
    assert "fewer than 10" in change.reason


def test_rows_meet_by_key_and_only_where_both_models_scored() -> None:
    rng = np.random.default_rng(4)
    label, new, old = world(rng, 120)
    common = {"category": "spam", "language": "en"}
    challenger = pd.DataFrame({"item_id": [f"i{k}" for k in range(120)], **common, "label": label, "inclusion_prob": 1.0, "prob": new})
    champion = pd.DataFrame({"item_id": [f"i{k}" for k in range(120)], **common, "prob": old}).sample(frac=1, random_state=1)[:100]
    rows = paired.join(challenger, champion)
    assert len(rows) == 100
    assert (rows.prob_champion.to_numpy() == old[rows.item_id.str[1:].astype(int)]).all()
    table = paired.compare(rows, {"spam": POINT}, 0.1)
    assert set(table.metric) == {"roc_auc_change", "precision_change", "recall_change", "fpr_change"}
    assert set(table.language) == {"all", "en"}
    mine = rows[rows.label == 0]
    expected = (mine.prob >= 0.5).mean() - (mine.prob_champion >= 0.5).mean()
    assert table.set_index(["language", "metric"]).value["all", "fpr_change"] == pytest.approx(expected)


def test_a_key_that_comes_twice_is_refused() -> None:
    rows = pd.DataFrame({"item_id": ["a", "a"], "category": "spam", "language": "en", "label": 1.0, "inclusion_prob": 1.0, "prob": 0.5})
    with pytest.raises(pd.errors.MergeError):
        paired.join(rows, rows)
