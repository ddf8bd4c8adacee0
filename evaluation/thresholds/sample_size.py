"""Compute how many labels a threshold would take ("need n"), from the procedure that is really run (docs/statistics.md, Sample size)."""

import math

import numpy as np
from scipy.special import ndtri

from upheld.common.arrays import Floats
from upheld.evaluation.statistics import weighted
from upheld.evaluation.thresholds import fallback_procedure

NUM_WORLDS = 400  # simulated weeks per number of labels: the standard error of a power of .8 is .02
MAX_LABELS = 1_000_000  # more is no plan


def labels_for_path(volumes: Floats, error_rates: Floats, weights: Floats, target: float, power: float, seed: int) -> int | None:
    """Count the labels, drawn evenly over all candidates' posts, with which the fallback procedure certifies one with probability `power`.

    Args:
        volumes: float64 (J,), posts at or above each candidate, rising.
        error_rates: float64 (J,) in [0, 1]: of the posts that each candidate adds to the one before.
        weights: float64 (J,) from `fallback_procedure.start_weights`.
        target: precision to certify.
        power: chance of success, in (0, 1).
        seed: of the simulated weeks.

    Returns:
        number of labels at or above the last candidate, to about 2 %; None where MAX_LABELS do not suffice.
    """
    shares = np.diff(volumes, prepend=0.0) / volumes[-1]

    def succeeds(num_labels: float) -> bool:
        """Say whether so many labels certify in enough of the simulated weeks."""
        rng = np.random.default_rng(seed)  # the same worlds for every number, so that more labels never look worse by luck
        drawn = rng.poisson(num_labels * shares, (NUM_WORLDS, len(shares)))
        errors = rng.binomial(drawn, error_rates).cumsum(axis=1).astype(np.float64)
        num = drawn.cumsum(axis=1).astype(np.float64)
        path = fallback_procedure.certify(fallback_procedure.Evidence(num, errors, errors, num, np.ones_like(num)), weights, target)
        return bool(path.passed.any(axis=1).mean() >= power)

    low, high = 1.0, 64.0
    while not succeeds(high):
        low, high = high, 2 * high
        if high > MAX_LABELS:
            return None
    while high / low > 1.02:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if succeeds(middle) else (middle, high)
    return math.ceil(high)


def labels_below(
    num_labels: int, missed: Floats, max_weight: float, num_found: float, target: float, delta: float, power: float
) -> int | None:
    """Count the labels below the review threshold with which the recall bound reaches the target, all zones drawn as now but more often.

    Args:
        num_labels: labels below the threshold now, > 0.
        missed: float64 (2,): sums of w and of w squared over the violations among them.
        max_weight: largest frame weight below the threshold.
        num_found: lower bound of the violations at or above the threshold.
        target: recall to certify.
        delta: error spent on the misses.
        power: chance of success, in (0, 1): the misses drawn are taken as that quantile of what a repeat would draw.

    Returns:
        the number of labels; None where the misses estimated now alone put recall below the target.
    """
    allowed = num_found * (1 / target - 1)
    if allowed <= missed[0]:
        return None
    factor = np.geomspace(0.01, MAX_LABELS, 3000)
    unlucky = missed[0] + float(ndtri(power)) * np.sqrt(missed[1] / factor)
    squares = missed[1] / factor * (unlucky / missed[0] if missed[0] > 0 else 1.0)
    bound = weighted.total_upper(unlucky, squares, max_weight / factor, delta)
    enough = bound <= allowed
    return math.ceil(num_labels * factor[np.argmax(enough)]) if enough.any() else None


def labels_below_without_miss(num_below: float, num_found: float, target: float, delta: float, floor: float) -> int:
    """Count the fewest labels below the threshold that certify recall when not one of them is a violation.

    Args:
        num_below: posts below the threshold.
        num_found: violations at or above it, > 0.
        target: recall to certify.
        delta: error spent on the misses.
        floor: uniform share of the design below the threshold, in (0, 1].

    Source: docs/statistics.md, Sample size: ln(1/delta) (N_below / floor) / (TP (1/target - 1)).
    """
    return math.ceil(math.log(1 / delta) * num_below / floor / (num_found * (1 / target - 1)))
