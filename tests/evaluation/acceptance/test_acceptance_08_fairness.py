"""Acceptance 8: error rates and power of the verdicts over twelve languages of Zipf sizes."""

import numpy as np
import pytest

from upheld.evaluation.metrics import fairness
from upheld.evaluation.metrics.fairness import Cells
from upheld.evaluation.statistics import intervals

BASE_RATE, TAU = 0.05, 0.05
Array = np.ndarray


def equal_weights(events: Array, trials: Array) -> Cells:
    return Cells(trials, events, events, trials, trials, np.ones_like(trials), np.ones_like(trials))


def language_sizes(total: int) -> Array:
    share = 1 / np.arange(1, 13)
    return np.maximum(np.round(total * share / share.sum()), 30)


def draw(sizes: Array, rates: Array, num_worlds: int, seed: int) -> Cells:
    trials = np.broadcast_to(sizes, (num_worlds, len(sizes))).copy()
    return equal_weights(np.random.default_rng(seed).binomial(trials.astype(int), rates).astype(float), trials)


@pytest.mark.parametrize("num_worlds", [1500, pytest.param(20_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("total", [1500, 5000, 20_000])
def test_equal_languages_are_seldom_warned_of(total: int, num_worlds: int) -> None:
    verdict = fairness.gap(draw(language_sizes(total), np.full(12, BASE_RATE), num_worlds, seed=80), TAU).verdict
    assert np.isin(verdict, ["WARN", "FAIL"]).any(axis=1).mean() <= 0.06


def test_unadjusted_p_values_would_warn_too_often() -> None:
    """The mutant: no Holm, and the normal test of two proportions."""
    cells = draw(language_sizes(1500), np.full(12, BASE_RATE), 1500, seed=80)
    others_x, others_n = (part.sum(axis=1, keepdims=True) - part for part in (cells.sum_w_events, cells.sum_w))
    pooled = (cells.sum_w_events + others_x) / (cells.sum_w + others_n)
    gap = cells.sum_w_events / cells.sum_w - others_x / others_n
    z = gap / np.sqrt(pooled * (1 - pooled) * (1 / cells.sum_w + 1 / others_n))
    assert ((z > 1.645) & (gap > TAU)).any(axis=1).mean() > 0.06


@pytest.mark.parametrize("total", [1500, 5000, 20_000])
@pytest.mark.parametrize("language", [0, 4, 8, 11])
def test_a_gap_of_tau_is_seldom_passed(total: int, language: int) -> None:
    rates = np.full(12, BASE_RATE)
    rates[language] += TAU
    verdict = fairness.gap(draw(language_sizes(total), rates, 1500, seed=81), TAU).verdict
    assert (verdict[:, language] == "PASS").mean() <= 0.065


@pytest.mark.parametrize("total", [1500, 5000, 20_000])
def test_a_gap_of_ten_points_is_seen_in_134_items(total: int) -> None:
    """WARN or worse: about half of these are FAIL."""
    sizes, rates = language_sizes(total), np.full(12, BASE_RATE)
    sizes[5], rates[5] = 134, BASE_RATE + 0.10
    verdict = fairness.gap(draw(sizes, rates, 2000, seed=82), TAU).verdict[:, 5]
    assert np.isin(verdict, ["WARN", "FAIL"]).mean() >= 0.85


def test_need_n_is_the_formula() -> None:
    expected = ((1.645 * np.sqrt(0.1 * 0.9) + 0.842 * np.sqrt(0.05 * 0.95)) / 0.05) ** 2
    assert fairness.need_n(np.array([0.05]), np.array([0.05]))[0] == pytest.approx(expected, abs=1)


def test_small_languages_are_insufficient_with_what_they_need() -> None:
    found = fairness.gap(equal_weights(np.array([[50.0, 1.0, 0.0]]), np.array([[1000.0, 12.0, 4.0]])), TAU)
    assert found.verdict[0, 1:].tolist() == ["INSUFFICIENT", "INSUFFICIENT"]
    assert (found.need_n[0, 1:] > 150).all()
    assert np.isnan(found.need_n[0, 0]) == (found.verdict[0, 0] != "INSUFFICIENT")


def test_need_n_exceeds_what_is_there() -> None:
    found = fairness.gap(equal_weights(np.array([[500.0, 95.0]]), np.array([[10_000.0, 1000.0]])), TAU)
    assert found.verdict[0, 1] == "INSUFFICIENT"
    assert found.need_n[0, 1] > 1000


def test_undefined_stays_undefined() -> None:
    found = fairness.gap(equal_weights(np.array([[5.0, 0.0]]), np.array([[100.0, 0.0]])), TAU)
    assert np.isnan(found.value).all()  # the second has no item, so the first has no others
    assert set(found.verdict[0]) == {"INSUFFICIENT"}
    assert found.reason[0, 1] == "undefined: no labelled item at risk"
    assert found.reason[0, 0] == "undefined: the others have no labelled item at risk"
    value, low, high, _ = fairness.rate(equal_weights(np.array([0.0]), np.array([0.0])), 0.1)
    assert np.isnan([value, low, high]).all()


def test_tenfold_disparity_at_a_low_base_rate_is_seen_by_the_ratio_alone() -> None:
    cells = equal_weights(np.array([[100.0, 50.0]]), np.array([[20_000.0, 1000.0]]))  # .5 % against 5 %
    assert fairness.gap(cells, TAU).verdict[0, 1] != "FAIL"
    assert fairness.ratio(cells, 2.0).verdict[0, 1] == "FAIL"
    assert fairness.ratio(cells, 2.0).value[0, 1] == pytest.approx(10)


def test_a_ratio_to_no_error_at_all_is_undefined() -> None:
    found = fairness.ratio(equal_weights(np.array([[0.0, 2.0]]), np.array([[500.0, 500.0]])), 2.0)
    assert np.isnan(found.value[0, 1])
    assert found.reason[0, 1] == "undefined: the others' rate is 0"


def test_weights_count_as_their_effective_numbers() -> None:
    plain = equal_weights(np.array([[30.0, 9.0]]), np.array([[600.0, 90.0]]))
    tripled = Cells(
        plain.num_labels,
        3 * plain.sum_w_events,
        9 * plain.sum_w2_events,
        3 * plain.sum_w,
        9 * plain.sum_w2,
        3 * plain.max_weight,
        3 * plain.max_weight,
    )
    for a, b in zip(fairness.gap(plain, TAU), fairness.gap(tripled, TAU), strict=True):
        assert a.tolist() == b.tolist() or np.allclose(a.astype(float), b.astype(float), equal_nan=True)


def test_rate_is_clopper_pearson_for_equal_weights() -> None:
    value, low, high, effective = fairness.rate(equal_weights(np.array([7.0]), np.array([80.0])), 0.1)
    assert (value[0], effective[0]) == (7 / 80, 80)
    assert low[0] == pytest.approx(intervals.clopper_pearson_lower(7, 80, 0.05))
    assert high[0] == pytest.approx(intervals.clopper_pearson_upper(7, 80, 0.05))
