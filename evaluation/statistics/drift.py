"""Detect that precision or calibration changed since the thresholds were certified, by e-Shiryaev-Roberts statistics.

See docs/statistics.md, Drift.

A statistic M starts at 0 and is carried from week to week in the report's state, so that a re-run gives the same. Under "nothing
changed" its mean in week t is at most t; so P(alarm within T weeks) <= T / threshold, whatever the sample sizes were.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, log_expit, logit

from upheld.common.arrays import Floats
from upheld.evaluation.cube.bins import centres

LARGEST = 1e300  # M grows without end after a change; JSON has no infinity


def precision_log_ratios(num_errors: ArrayLike, num_labels: ArrayLike, null_rate: float, alternatives: tuple[float, ...]) -> Floats:
    """Compute the log likelihood ratio of one week's audited removals for each higher error rate against `null_rate`.

    Args:
        num_errors: (...,), wrong ones among them.
        num_labels: (...,), audited removals of the week, drawn with one probability per cell.
        null_rate: error rate that is tolerated, in (0, 1); lower ones are covered too.
        alternatives: A error rates, each above null_rate.

    Returns:
        float64 (..., A); 0 where nothing was audited.

    Raises:
        ValueError: an alternative does not exceed null_rate: then lower error rates could raise an alarm.
    """
    rates = np.asarray(alternatives)
    if (rates <= null_rate).any():
        raise ValueError(f"every alternative must exceed the tolerated error rate {null_rate}, got {alternatives}")
    errors, labels = np.asarray(num_errors, np.float64)[..., None], np.asarray(num_labels, np.float64)[..., None]
    return np.asarray(errors * np.log(rates / null_rate) + (labels - errors) * np.log((1 - rates) / (1 - null_rate)), np.float64)


def tilt_log_ratios(violations: ArrayLike, others: ArrayLike, tilts: tuple[float, ...]) -> Floats:
    """Compute the log likelihood ratio of one week's labels for logits moved by each tilt against calibrated scores.

    Weights do not enter: given the score, whether an item is a violation does not depend on how it was drawn.

    Args:
        violations: (..., 4096), labelled violations per score bin of calibrated probabilities.
        others: (..., 4096), labelled others.
        tilts: A shifts of the logit.

    Returns:
        float64 (..., A); 0 where nothing was labelled.
    """
    base = logit(centres())
    moved = base + np.asarray(tilts)[:, None]
    gain_violation, gain_other = log_expit(moved) - log_expit(base), log_expit(-moved) - log_expit(-base)  # (A, 4096)
    return np.asarray(np.asarray(violations, np.float64) @ gain_violation.T + np.asarray(others, np.float64) @ gain_other.T, np.float64)


def expected_violations(violations: ArrayLike, others: ArrayLike) -> Floats:
    """Predict the violations among the labelled items of (..., 4096) bins from calibrated scores, float64 (...,).

    Beside the violations that were found, the number says which way a tilt went.
    """
    total = np.asarray(violations, np.float64) + np.asarray(others, np.float64)
    return np.asarray(total @ expit(logit(centres())), np.float64)


def update(state: ArrayLike, log_ratios: Floats) -> Floats:
    """Carry the statistics of every alternative one week on: M <- (M + 1) * ratio.

    Args:
        state: (..., A), last week's; zeros where a cell is new.
        log_ratios: (..., A), this week's.

    Returns:
        float64 (..., A), at most LARGEST.

    Source: Shiryaev (1963), Roberts (1966); as an e-process: Shin, Ramdas & Rinaldo (2024), "E-detectors".
    """
    grown = np.log(np.asarray(state, np.float64) + 1) + log_ratios
    return np.asarray(np.exp(np.minimum(grown, np.log(LARGEST))), np.float64)


def statistic(state: ArrayLike) -> Floats:
    """Average a cell's statistic over its alternatives, float64 (...,); the mean keeps the bound of each."""
    return np.asarray(np.mean(np.asarray(state, np.float64), axis=-1), np.float64)


def alarm_threshold(num_cells: int, false_alarms_per_year: float) -> float:
    """Compute the level at which a statistic is an alarm: all cells together then raise at most that many false alarms in 52 weeks."""
    return 52 * num_cells / false_alarms_per_year
