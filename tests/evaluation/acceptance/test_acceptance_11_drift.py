"""Acceptance 11: false alarms and delay of the e-Shiryaev-Roberts statistics."""

import numpy as np
import pytest

from upheld.evaluation.cube import bins
from upheld.evaluation.statistics import drift

ALTERNATIVES = (0.065, 0.08, 0.10, 0.15, 0.25)
TILTS = (-1.0, -0.5, -0.25, -0.125, 0.125, 0.25, 0.5, 1.0)
THRESHOLD = 3120.0
NEVER = 10**6


def first_alarm(num_labels: int, change_week: int, num_weeks: int, num_runs: int, seed: int) -> np.ndarray:
    """Week of the first alarm in each run: errors .05, and .10 from change_week on."""
    rng = np.random.default_rng(seed)
    state, first = np.zeros((num_runs, len(ALTERNATIVES))), np.full(num_runs, NEVER)
    for week in range(num_weeks):
        errors = rng.binomial(num_labels, 0.05 if week < change_week else 0.10, num_runs)
        state = drift.update(state, drift.precision_log_ratios(errors, np.full(num_runs, num_labels), 0.05, ALTERNATIVES))
        first = np.where((drift.statistic(state) >= THRESHOLD) & (first == NEVER), week, first)
    return first


def test_threshold_is_the_specifications() -> None:
    assert drift.alarm_threshold(60, 1.0) == THRESHOLD


@pytest.mark.parametrize("num_runs", [4000, pytest.param(100_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("num_labels", [30, 100, 300])
def test_false_alarms_are_at_most_one_a_year_in_sixty_cells(num_labels: int, num_runs: int) -> None:
    assert (first_alarm(num_labels, NEVER, 52, num_runs, seed=110) < 52).mean() <= 0.0167


@pytest.mark.parametrize("num_labels", [30, 100, 300])
def test_a_weekly_z_test_would_raise_hundreds(num_labels: int) -> None:
    """The mutant: 60 cells tested each week at .05."""
    errors = np.random.default_rng(111).binomial(num_labels, 0.05, (60, 52))
    z = (errors / num_labels - 0.05) / np.sqrt(0.05 * 0.95 / num_labels)
    assert (z > 1.645).sum() > 100


@pytest.mark.parametrize(("num_labels", "most_weeks"), [(30, 13), (100, 5), (300, 3)])
def test_a_fall_to_ninety_percent_is_seen_in_time(num_labels: int, most_weeks: int) -> None:
    first = first_alarm(num_labels, 26, 120, 2000, seed=112)
    assert np.median(first[first >= 26] - 26 + 1) <= most_weeks


@pytest.mark.parametrize("num_labels", [200])
def test_calibrated_scores_raise_no_alarm_and_a_tilt_does(num_labels: int) -> None:
    rng = np.random.default_rng(113)
    prob = bins.centres()[1000:3000:20]
    alarms = {}
    for tilt in (0.0, 0.7):
        logit = np.log(prob / (1 - prob)) + tilt
        state, alarmed = np.zeros((150, len(TILTS))), np.zeros(150, bool)
        for _ in range(52):
            drawn = rng.multinomial(num_labels, np.full(len(prob), 1 / len(prob)), 150)
            hits = rng.binomial(drawn, 1 / (1 + np.exp(-logit)))
            violations, others = np.zeros((150, bins.NUM_BINS)), np.zeros((150, bins.NUM_BINS))
            violations[:, 1000:3000:20], others[:, 1000:3000:20] = hits, drawn - hits
            state = drift.update(state, drift.tilt_log_ratios(violations, others, TILTS))
            alarmed |= drift.statistic(state) >= THRESHOLD
        alarms[tilt] = alarmed.mean()
    assert alarms[0.0] <= 0.0167 + 0.01
    assert alarms[0.7] >= 0.99


def test_likelihood_ratios_average_to_one_where_nothing_changed() -> None:
    from scipy.stats import binom

    errors = np.arange(41)
    ratios = np.exp(drift.precision_log_ratios(errors, np.full(41, 40), 0.05, ALTERNATIVES))
    assert binom.pmf(errors, 40, 0.05) @ ratios == pytest.approx(np.ones(len(ALTERNATIVES)))


def test_a_week_without_labels_counts_on_and_says_nothing() -> None:
    ratios = drift.precision_log_ratios(0, 0, 0.05, ALTERNATIVES)
    assert drift.statistic(drift.update(np.zeros(5), ratios)) == pytest.approx(1)
    assert drift.tilt_log_ratios(np.zeros(bins.NUM_BINS), np.zeros(bins.NUM_BINS), TILTS).tolist() == [0.0] * len(TILTS)


def test_state_stays_finite_for_ever() -> None:
    state = np.zeros(5)
    for _ in range(50):
        state = drift.update(state, drift.precision_log_ratios(3000, 3000, 0.05, ALTERNATIVES))
    assert np.isfinite(state).all() and drift.statistic(state) <= drift.LARGEST


def test_direction_of_a_tilt_is_told_by_the_expected_count() -> None:
    violations, others = np.zeros(bins.NUM_BINS), np.zeros(bins.NUM_BINS)
    violations[3000], others[3000] = 10, 90
    assert drift.expected_violations(violations, others) == pytest.approx(100 * bins.centres()[3000])


def test_an_alternative_that_is_no_worsening_is_refused() -> None:
    with pytest.raises(ValueError, match="exceed the tolerated"):
        drift.precision_log_ratios(1, 10, 0.05, (0.04,))
