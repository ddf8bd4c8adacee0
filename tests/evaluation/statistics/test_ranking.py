"""Areas and their intervals against scikit-learn, pairs counted one by one, and simulation."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from upheld.evaluation.statistics import calibration_error, ranking

NUM_BINS = 64


def sides(label, bins, weight, prob=None):
    """The two arrays (1, NUM_BINS, 4) of one cell, summed row by row."""
    found = np.zeros((2, 1, NUM_BINS, 4))
    prob = bins / NUM_BINS if prob is None else prob
    for y, k, w, p in zip(label, bins, weight, prob, strict=True):
        found[int(y), 0, k] += [1, w, w * w, w * p]
    return found[1], found[0]


@pytest.fixture(params=[0, 1, 2])
def world(request):
    rng = np.random.default_rng(request.param)
    label = rng.random(400) < 0.3
    bins = np.clip(rng.normal(25 + 12 * label, 9), 0, NUM_BINS - 1).astype(int)
    return label, bins, rng.choice([1.0, 4.0, 20.0], 400)


def test_areas_are_those_of_scikit_learn(world) -> None:
    label, bins, weight = world
    pos, neg = sides(label, bins, weight)
    assert ranking.roc_auc(pos, neg, 0.1)[0][0] == pytest.approx(roc_auc_score(label, bins, sample_weight=weight), abs=1e-12)
    assert ranking.average_precision(pos, neg, 0.1)[0][0] == pytest.approx(
        average_precision_score(label, bins, sample_weight=weight), abs=1e-12
    )
    score = calibration_error.brier(pos, neg, 0.1)[0][0]
    assert score == pytest.approx(brier_score_loss(label, bins / NUM_BINS, sample_weight=weight), abs=1e-12)


def test_auc_counts_pairs(world) -> None:
    label, bins, weight = world
    pairs = weight[label][:, None] * weight[~label][None, :]
    higher = (bins[label][:, None] > bins[~label][None, :]) + 0.5 * (bins[label][:, None] == bins[~label][None, :])
    expected = (pairs * higher).sum() / pairs.sum()
    assert ranking.roc_auc(*sides(label, bins, weight), 0.1)[0][0] == pytest.approx(expected, abs=1e-12)


def test_one_class_is_undefined_not_half() -> None:
    pos, neg = sides(np.ones(5), np.arange(5), np.ones(5))
    for area in (ranking.roc_auc, ranking.average_precision):
        assert all(np.isnan(part[0]) for part in area(pos, neg, 0.1))


def test_a_perfect_ranking_of_few_rows_keeps_a_wide_interval() -> None:
    value, low, high = ranking.roc_auc(*sides([1, 1, 1, 0, 0, 0], np.array([50, 51, 52, 1, 2, 3]), np.ones(6)), 0.1)
    assert (value[0], high[0]) == (1.0, pytest.approx(1.0))
    assert low[0] < 0.75


@pytest.mark.parametrize("weighted", [False, True])
def test_intervals_cover(weighted) -> None:
    """1500 draws from a population whose areas are known; the miss rate of a 90 % interval stays near its 10 %."""
    rng = np.random.default_rng(5)
    label = rng.random(20_000) < 0.2
    bins = np.clip(rng.normal(25 + 10 * label, 9), 0, NUM_BINS - 1).astype(int)
    prob = np.where(bins > 30, 0.05, 0.01) if weighted else np.full(20_000, 0.02)
    truth = roc_auc_score(label, bins), average_precision_score(label, bins)
    cells = np.zeros((2, 1500, NUM_BINS, 4))
    for draw in range(1500):
        rows = np.flatnonzero(rng.random(20_000) < prob)
        w = 1 / prob[rows]
        for moment, values in enumerate((np.ones(len(rows)), w, w * w, w * 0.0)):
            np.add.at(cells[:, draw, :, moment], (label[rows].astype(int), bins[rows]), values)
    for area, expected in zip((ranking.roc_auc, ranking.average_precision), truth, strict=True):
        _, low, high = area(cells[1], cells[0], 0.1)
        assert 0.86 <= ((low <= expected) & (expected <= high)).mean() <= 0.98


def test_debiased_error_is_zero_on_average_where_probabilities_are_right() -> None:
    rng = np.random.default_rng(3)
    cells = np.zeros((2, 600, NUM_BINS, 4))
    for cell in range(600):
        bins = rng.integers(1, NUM_BINS, 300)
        prob = bins / NUM_BINS
        label = (rng.random(300) < prob).astype(int)
        for moment, values in enumerate((1.0, 1.0, 1.0, prob)):
            np.add.at(cells[:, cell, :, moment], (label, bins), values)
    curve = calibration_error.reliability(cells[1], cells[0], 0.1)
    value, low, high = calibration_error.ce2_debiased(curve, 0.1, seed=1)
    plug_in = (curve.share * (curve.rate - curve.prob) ** 2).sum(-1).mean()
    assert abs(value.mean()) < 3e-4 < 5e-3 < plug_in  # the plug-in error of a perfect model is far from 0
    assert (low == 0).mean() > 0.85
    assert (high >= 0).all()


def test_debiased_error_finds_what_is_wrong() -> None:
    rng = np.random.default_rng(4)
    bins = rng.integers(1, NUM_BINS, 20_000)
    label = rng.random(20_000) < np.clip(bins / NUM_BINS - 0.1, 0, 1)
    pos, neg = sides(label, bins, np.ones(20_000))
    value, low, high = calibration_error.ce2_debiased(calibration_error.reliability(pos, neg, 0.1), 0.1, seed=1)
    assert low[0] < 0.01 < high[0] < 0.02
    assert value[0] == pytest.approx(0.01, abs=0.0015)


def test_rows_that_agree_leave_the_error_open() -> None:
    pos, neg = sides([0] * 30, np.full(30, 3), np.ones(30))
    curve = calibration_error.reliability(pos, neg, 0.1, num_groups=1)
    _, low, high = calibration_error.ce2_debiased(curve, 0.1, seed=1)
    assert high[0] - low[0] > 0.001


def test_a_dozen_rows_say_nothing_of_calibration() -> None:
    pos, neg = sides([0, 1] * 6, np.linspace(1, 60, 12).astype(int), np.ones(12))
    curve = calibration_error.reliability(pos, neg, 0.1)
    assert (curve.num > 0).sum() == 1  # no group of two or three, whose verdicts would be the error
    assert np.isnan(calibration_error.ce2_debiased(curve, 0.1, seed=1)).all()
