"""Oracles: SciPy's own tests and intervals, and inversion of binomial tails by bisection."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, fisher_exact

from upheld.evaluation.statistics import intervals
from upheld.evaluation.statistics.intervals import Bounded


def wilson(k: object, n: object, alpha: float) -> Bounded:
    return Bounded(intervals.rates(k, n), *intervals.wilson(k, n, alpha))


def tail(k: int, n: int, rate: float) -> float:
    """P(X >= k) for X ~ Binomial(n, rate), summed term by term."""
    return sum(math.comb(n, i) * rate**i * (1 - rate) ** (n - i) for i in range(k, n + 1))


@pytest.mark.parametrize(("k", "n"), [(1, 1), (0, 7), (9, 10), (59, 59), (180, 200), (3, 200)])
def test_clopper_pearson_is_scipys(k: int, n: int) -> None:
    expected = binomtest(k, n).proportion_ci(0.9, method="exact")
    assert intervals.clopper_pearson_lower(k, n, 0.05).item() == pytest.approx(expected.low, abs=1e-9)
    assert intervals.clopper_pearson_upper(k, n, 0.05).item() == pytest.approx(expected.high, abs=1e-9)


def test_clopper_pearson_lower_is_where_the_tail_equals_delta() -> None:
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if tail(17, 23, middle) < 0.1 else (low, middle)
    assert intervals.clopper_pearson_lower(17, 23, 0.1).item() == pytest.approx(low, abs=1e-9)


@pytest.mark.parametrize(("k", "n"), [(0, 12), (3, 12), (12, 12), (400, 1000)])
def test_wilson_is_scipys(k: int, n: int) -> None:
    expected = binomtest(k, n).proportion_ci(0.9, method="wilson")
    low, high = intervals.wilson(k, n, 0.1)
    assert (low.item(), high.item()) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(  # Newcombe (1998), table II, method 10
    ("counts", "expected"),
    [
        ((56, 70, 48, 80), (0.0524, 0.3339)),
        ((9, 10, 3, 10), (0.1705, 0.8090)),
        ((10, 10, 0, 10), (0.6075, 1.0)),
        ((0, 10, 0, 10), (-0.2775, 0.2775)),
    ],
)
def test_newcombe_agrees_with_the_paper(counts: tuple[int, ...], expected: tuple[float, float]) -> None:
    low, high = intervals.difference(wilson(*counts[:2], 0.05), wilson(*counts[2:], 0.05))
    assert (low.item(), high.item()) == pytest.approx(expected, abs=5e-5)


def test_ratio_interval_holds_the_ratio_and_agrees_with_the_log_method_where_counts_are_large() -> None:
    low, high = intervals.ratio(wilson(500, 10_000, 0.1), wilson(2_000, 80_000, 0.1))
    half = 1.6449 * math.sqrt(1 / 500 - 1 / 10_000 + 1 / 2_000 - 1 / 80_000)
    assert (low.item(), high.item()) == pytest.approx((2 * math.exp(-half), 2 * math.exp(half)), rel=0.01)


def test_ratio_to_a_rate_that_may_be_zero_has_no_upper_end() -> None:
    low, high = intervals.ratio(wilson([0, 4], [50, 50], 0.1), wilson([0, 0], [500, 500], 0.1))
    assert low[0] == 0 and low[1] > 1
    assert np.isinf(high).all()


@given(st.integers(0, 30), st.integers(1, 30), st.integers(0, 60), st.integers(1, 60))
@settings(max_examples=60, deadline=None)
def test_prob_gap_by_chance_is_fishers(k1: int, n1: int, k0: int, n0: int) -> None:
    k1, k0 = min(k1, n1), min(k0, n0)
    expected = fisher_exact([[k1, n1 - k1], [k0, n0 - k0]], alternative="greater").pvalue
    assert intervals.prob_gap_by_chance(k1, n1, k0, n0).item() == pytest.approx(expected, abs=2e-3)


def test_holm_adjusts_only_what_was_tested() -> None:
    adjusted = intervals.holm([0.01, np.nan, 0.04, 0.03])
    assert adjusted[[0, 2, 3]] == pytest.approx([0.03, 0.06, 0.06])
    assert np.isnan(adjusted[1])


def test_no_trial_is_no_evidence() -> None:
    every = [
        intervals.clopper_pearson_lower(0, 0, 0.1),
        intervals.clopper_pearson_upper(0, 0, 0.1),
        *intervals.wilson(0, 0, 0.1),
        *intervals.difference(wilson(0, 0, 0.1), wilson(1, 5, 0.1)),
        *intervals.ratio(wilson(1, 5, 0.1), wilson(0, 0, 0.1)),
        intervals.prob_gap_by_chance(0, 0, 1, 5),
        intervals.rates(0, 0),
    ]
    assert all(np.isnan(value) for value in every)


@pytest.mark.parametrize(("k", "n", "delta"), [(-1, 5, 0.1), (6, 5, 0.1), (1, 5, 0.0), (1, 5, 1.0)])
def test_impossible_counts_are_refused(k: int, n: int, delta: float) -> None:
    with pytest.raises(ValueError, match="must lie"):
        intervals.clopper_pearson_lower(k, n, delta)
