"""Challenger against comparator: against pairs counted one by one, the unpaired bootstrap, and simulation."""

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


def one_model(num):
    return np.full(num, "champion 1")


def test_auc_change_is_the_difference_of_the_two_areas() -> None:
    rng = np.random.default_rng(1)
    label, new, old = world(rng, 500)
    weight = rng.choice([1.0, 5.0], 500)
    areas = paired.paired_auc(label, weight, new, old, one_model(500), 0.1)
    expected = roc_auc_score(label, new, sample_weight=weight) - roc_auc_score(label, old, sample_weight=weight)
    assert areas.change.value == pytest.approx(expected, abs=1e-12)
    assert areas.challenger == pytest.approx(roc_auc_score(label, new, sample_weight=weight), abs=1e-12)
    assert areas.comparator == pytest.approx(roc_auc_score(label, old, sample_weight=weight), abs=1e-12)


def test_only_pairs_of_one_version_count_each_by_its_weight() -> None:
    rng = np.random.default_rng(5)
    label, new, old = world(rng, 160)
    weight, version = rng.choice([1.0, 5.0], 160), np.resize(["v1", "v2", "v2"], 160)
    version[:8] = "v3"  # too few to say anything
    hits, total = np.zeros(2), 0.0
    for i in np.flatnonzero(label == 1):
        for j in np.flatnonzero((label == 0) & (version == version[i]) & (version != "v3")):
            pair = weight[i] * weight[j]
            hits += [pair * (score[i] > score[j]) for score in (new, old)]
            total += pair
    areas = paired.paired_auc(label, weight, new, old, version, 0.1)
    assert (areas.challenger, areas.comparator) == pytest.approx(tuple(hits / total), abs=1e-12)
    assert (areas.names, areas.num_rows) == (("v2", "v1"), 152)


def test_intervals_cover_no_change_and_are_narrower_than_unpaired_ones() -> None:
    rng = np.random.default_rng(2)
    hits, widths = [], []
    for _ in range(600):
        label, new, old = world(rng, 300)
        weight = rng.choice([1.0, 4.0], 300)
        flagged_new, flagged_old = (new > 0.5).astype(float), (old > 0.5).astype(float)
        change = paired.paired_auc(label, weight, new, old, one_model(300), 0.1).change
        recall = paired.paired_rate(weight, flagged_new * label, label, flagged_old * label, label, 0.1)
        precision = paired.paired_rate(weight, flagged_new * label, flagged_new, flagged_old * label, flagged_old, 0.1)
        hits.append([part.ci_low <= 0 <= part.ci_high for part in (change, recall, precision)])
        widths.append(change.ci_high - change.ci_low)
    assert (np.mean(hits, axis=0) >= 0.86).all(), np.mean(hits, axis=0)
    single = 2 * 1.645 * np.sqrt(2) * 0.025  # two independent areas of this world, standard error about .025 each
    assert np.mean(widths) < single


def test_identical_models_do_not_differ() -> None:
    label, new, _ = world(np.random.default_rng(3), 200)
    change = paired.paired_auc(label, np.ones(200), new, new, one_model(200), 0.1).change
    assert (change.value, change.ci_low, change.ci_high) == (0, 0, 0)


def test_few_rows_of_a_class_are_no_comparison() -> None:
    label = np.array([1.0] * 9 + [0.0] * 50)
    change = paired.paired_auc(label, np.ones(59), np.linspace(0, 1, 59), np.linspace(0, 1, 59), one_model(59), 0.1).change
    assert np.isnan(change.value)
    assert "fewer than 10" in change.reason
    two = np.resize(["v1", "v2"], 200)
    alone = paired.paired_auc(np.resize([1.0, 1.0, 0.0, 0.0], 200), np.ones(200), np.ones(200), np.ones(200), two, 0.1)
    assert alone.change.value == 0
    apart = paired.paired_auc((two == "v1").astype(float), np.ones(200), np.ones(200), np.ones(200), two, 0.1)
    assert np.isnan(apart.change.value)  # one made all violations, the other all else: no pair counts


def test_intervals_of_two_versions_cover_no_change() -> None:
    rng = np.random.default_rng(6)
    hits = []
    for _ in range(600):
        label, new, old = world(rng, 400)
        version = np.where(rng.random(400) < 0.3 + 0.4 * label, "v1", "v2")
        change = paired.paired_auc(label, rng.choice([1.0, 4.0], 400), new, old, version, 0.1).change
        hits.append(change.ci_low <= 0 <= change.ci_high)
    assert np.mean(hits) >= 0.86, np.mean(hits)


def test_rows_meet_by_key_and_only_where_both_models_scored() -> None:
    rng = np.random.default_rng(4)
    label, new, old = world(rng, 120)
    common = {"category": "spam", "language": "en"}
    challenger = pd.DataFrame({"item_id": [f"i{k}" for k in range(120)], **common, "label": label, "inclusion_prob": 1.0, "prob": new})
    named = {**common, "model_version": "champion 1"}
    champion = pd.DataFrame({"item_id": [f"i{k}" for k in range(120)], **named, "prob": old}).sample(frac=1, random_state=1)[:100]
    rows = paired.join(challenger, champion)
    assert len(rows) == 100
    assert (rows.prob_comparator.to_numpy() == old[rows.item_id.str[1:].astype(int)]).all()
    table = paired.compare(rows, {"spam": POINT}, 0.1, served=False)
    of_ranking = {"roc_auc_change", "roc_auc_same_posts", "roc_auc_comparator"}
    assert set(table.metric) == of_ranking | {"precision_change", "recall_change", "fpr_change"}
    assert set(paired.compare(rows, {}, 0.1, served=True).metric) == of_ranking
    assert set(table.language) == {"all", "en"}
    mine = rows[rows.label == 0]
    expected = (mine.prob >= 0.5).mean() - (mine.prob_comparator >= 0.5).mean()
    assert table.set_index(["language", "metric"]).value["all", "fpr_change"] == pytest.approx(expected)


def test_a_key_that_comes_twice_is_refused() -> None:
    rows = pd.DataFrame({"item_id": ["a", "a"], "category": "spam", "language": "en", "label": 1.0, "inclusion_prob": 1.0, "prob": 0.5})
    with pytest.raises(pd.errors.MergeError):
        paired.join(rows, rows.assign(model_version="champion 1"))
