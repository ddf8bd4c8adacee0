"""Equal weights must give the exact binomial and Poisson bounds; the oracles are SciPy's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, chi2, poisson

from upheld.evaluation.statistics import intervals, weighted


@given(st.integers(1, 3000), st.floats(0, 1), st.floats(0.01, 50), st.floats(0.5, 0.99))
@settings(max_examples=100, deadline=None)
def test_equal_weights_give_the_binomial_tail(n: int, share: float, weight: float, target: float) -> None:
    k = round(share * n)
    p_value = weighted.rate_p_value(k * weight, k * weight**2, n * weight, weight, 1 - target).item()
    assert p_value == pytest.approx(binom.cdf(k, n, 1 - target), abs=1e-9)


@pytest.mark.parametrize(("k", "n"), [(0, 5), (2, 40), (40, 40)])
def test_equal_weights_give_clopper_pearson(k: int, n: int) -> None:
    expected = binomtest(k, n).proportion_ci(0.8, method="exact")
    assert weighted.rate_upper(k * 4.0, k * 16.0, n * 4.0, 4.0, 0.1).item() == pytest.approx(expected.high, abs=1e-9)
    assert weighted.rate_lower(k * 4.0, k * 16.0, n * 4.0, n * 16.0, 4.0, 0.1).item() == pytest.approx(expected.low, abs=1e-9)


def test_bound_is_where_the_p_value_is_delta() -> None:
    sums = (130.0, 2100.0, 4000.0, 50.0)
    upper = weighted.rate_upper(*sums, 0.07)
    assert weighted.rate_p_value(*sums, upper).item() == pytest.approx(0.07, abs=1e-9)


def test_equal_weights_give_the_poisson_bounds() -> None:
    k, weight = 6, 3.0
    assert weighted.total_upper(k * weight, k * weight**2, weight, 0.1).item() == pytest.approx(weight * chi2.ppf(0.9, 2 * k + 2) / 2)
    assert weighted.total_lower(k * weight, k * weight**2, 0.1).item() == pytest.approx(weight * chi2.ppf(0.1, 2 * k) / 2)


def test_no_miss_seen_still_bounds_the_misses() -> None:
    assert weighted.total_upper(0.0, 0.0, 20.0, 0.05).item() == pytest.approx(20 * np.log(20))


def test_effective_counts_keep_the_rate_and_equal_weights_keep_the_counts() -> None:
    events, trials = weighted.effective_counts(130.0, 2100.0, 4000.0, 50.0)
    assert events / trials == pytest.approx(130 / 4000)
    assert weighted.effective_counts(6 * 5.0, 6 * 25.0, 90 * 5.0, 5.0) == pytest.approx((6, 90))


def test_nothing_labelled_is_no_evidence() -> None:
    assert weighted.rate_p_value(0.0, 0.0, 0.0, 10.0, 0.05) == 1
    assert np.isnan(weighted.rate_upper(0.0, 0.0, 0.0, 10.0, 0.1))
    assert np.isnan(weighted.rate_lower(0.0, 0.0, 0.0, 0.0, 10.0, 0.1))
    assert weighted.total_lower(0.0, 0.0, 0.1) == 0
    assert weighted.total_upper(0.0, 0.0, 0.0, 0.1) == 0  # a frame without such an item misses nothing


def test_a_larger_frame_weight_never_helps() -> None:
    weights = np.array([2.0, 5.0, 20.0, 100.0])
    assert (np.diff(weighted.rate_p_value(4.0, 8.0, 500.0, weights, 0.05)) >= 0).all()
    assert (np.diff(weighted.total_upper(4.0, 8.0, weights, 0.1)) >= 0).all()


def outcomes(lam_events: float, lam_rest: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every number of events and others that Poisson sampling may draw, and its probability given that anything was drawn."""
    ranges = [np.arange(poisson.ppf(1 - 1e-7, lam) + 1) for lam in (lam_events, lam_rest)]
    events, rest = (part.ravel() for part in np.meshgrid(*ranges, indexing="ij"))
    prob = poisson.pmf(events, lam_events) * poisson.pmf(rest, lam_rest) * (events + rest > 0)
    return events, rest, prob / prob.sum()


@pytest.mark.parametrize(("w_event", "w_rest"), [(1.67, 50.0), (10.0, 50.0), (50.0, 1.67), (10.0, 10.0)])
def test_limits_of_a_rate_hold_for_any_number_of_labels_of_any_weights(w_event: float, w_rest: float) -> None:
    """FF-beta with the events' own weight alone, the mutant, misses far more often where events weigh less than the rest."""
    missed, of_the_mutant = [], []
    for lam_events in (0.3, 1, 3, 10, 60):
        for lam_rest in (0.3, 1, 3, 10, 60):
            events, rest, prob = outcomes(lam_events, lam_rest)
            sums = (w_event * events, w_event**2 * events, w_event * events + w_rest * rest)
            low, high = weighted.rate_limits(*sums, sums[1] + w_rest**2 * rest, w_event, w_rest, 0.1)
            true = w_event * lam_events / (w_event * lam_events + w_rest * lam_rest)
            # No label at all is left out, and given that there is one, the few that there are say more: .07 at most instead of .05.
            missed += [prob[low > true].sum(), prob[high < true].sum()]
            of_the_mutant.append(prob[weighted.rate_upper(*sums, w_event, 0.05) < true].sum())
    assert max(missed) <= 0.07
    assert max(of_the_mutant) >= 0.15 or w_event >= w_rest


def test_limits_of_equal_weights_are_clopper_pearson() -> None:
    low, high = weighted.rate_limits(3 * 7.0, 9 * 7.0, 3 * 80.0, 9 * 80.0, 3.0, 3.0, 0.1)
    assert np.array([low, high]) == pytest.approx(np.array(intervals.clopper_pearson(7, 80, 0.1)))


def test_a_single_heavy_label_is_one_trial() -> None:
    """One harmless post, drawn with .02 and not flagged, where flagged ones are drawn with .1."""
    low, high = weighted.rate_limits(0.0, 0.0, 50.0, 2500.0, 10.0, 50.0, 0.1)
    assert low == 0
    assert high > 0.9
