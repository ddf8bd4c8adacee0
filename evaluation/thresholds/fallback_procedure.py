"""Certify the precision of automatic removal along a path of thresholds: learn-then-test by the fallback procedure.

Source: Angelopoulos, Bates, Candès, Jordan & Lei (2021/2025), "Learn then Test"; Wiens & Dmitrienko (2005), Journal of Biopharmaceutical
Statistics 15(6), for the fallback procedure; docs/statistics.md, Removal threshold, for the choices.
"""

from typing import NamedTuple

import numpy as np

from upheld.common.arrays import Bools, Floats, Ints
from upheld.evaluation.statistics import weighted


class Evidence(NamedTuple):
    """Audited items at or above each candidate threshold, float64 (..., candidates), in the order of the path.

    num_labels: labelled items.
    sum_w_errors, sum_w2_errors: sums of w and w squared over those that were no violation; w = 1 / inclusion_prob.
    sum_w: sum of w over all labelled items.
    max_weight: largest 1 / inclusion_prob of the frame there, drawn or not.
    """

    num_labels: Floats
    sum_w_errors: Floats
    sum_w2_errors: Floats
    sum_w: Floats
    max_weight: Floats


class Path(NamedTuple):
    """What was tested, arrays (..., candidates).

    p_value: of "precision is below the target"; 1 where nothing was labelled.
    level: share of delta that the candidate was tested at; 0 where its chain had died, or had not begun.
    tested, passed: whether it was tested, and certified.
    """

    p_value: Floats
    level: Floats
    tested: Bools
    passed: Bools


def start_weights(candidate_volumes: Floats, start_volumes: Floats, delta: float) -> Floats:
    """Share of delta that each candidate begins with: equal parts, at the last candidate that removes no more than each start's volume.

    Args:
        candidate_volumes: float64 (J,), rising.
        start_volumes: float64 (K,), posts.
        delta: error of the whole path.

    Returns:
        float64 (J,), summing to delta; two starts may fall on one candidate. A start below the first candidate begins there.
    """
    weights = np.zeros(len(candidate_volumes))
    places = np.searchsorted(candidate_volumes, start_volumes * (1 + 1e-12), side="right") - 1
    np.add.at(weights, np.maximum(places, 0), delta / len(start_volumes))
    return weights


def certify(evidence: Evidence, weights: Floats, target: float) -> Path:
    """Run the fallback procedure down the path, for any number of weeks at once.

    A chain tests a candidate at its level; where it passes, the level goes on to the next candidate and adds to what that one begins
    with; where it fails, the level is spent. Candidates with too few labels to pass even without an error are stepped over: how many
    labels there are does not depend on what they say.

    Args:
        evidence: (..., J).
        weights: float64 (J,) from `start_weights`.
        target: precision, in (0, 1).

    Returns:
        the path. P(any candidate with precision < target passes) <= sum of weights.
    """
    p_value = weighted.rate_p_value(evidence.sum_w_errors, evidence.sum_w2_errors, evidence.sum_w, evidence.max_weight, 1 - target)
    safe_weight = np.where(evidence.max_weight > 0, evidence.max_weight, 1.0)
    return fallback(p_value, np.power(target, evidence.sum_w / safe_weight), weights)


def fallback(p_value: Floats, least_p_value: Floats, weights: Floats) -> Path:
    """The fallback procedure on any p-values; see `certify`.

    Args:
        p_value: (..., J).
        least_p_value: (..., J), the p-value that as many labels would have without an error.
        weights: float64 (J,) from `start_weights`.
    """
    level, tested, passed = np.zeros(p_value.shape), np.zeros(p_value.shape, bool), np.zeros(p_value.shape, bool)
    carried = np.zeros(p_value.shape[:-1])
    for j in range(p_value.shape[-1]):
        carried = carried + weights[j]
        level[..., j] = carried
        tested[..., j] = (carried > 0) & (least_p_value[..., j] <= carried * (1 + 1e-9))
        passed[..., j] = tested[..., j] & (p_value[..., j] <= carried)
        carried = np.where(tested[..., j] & ~passed[..., j], 0.0, carried)
    return Path(p_value, level, tested, passed)


def last_passed(passed: Bools) -> Ints:
    """Position of the last certified candidate (the one that removes most), int64 (...,); -1 where none is."""
    num = passed.shape[-1]
    return np.where(passed.any(axis=-1), num - 1 - np.argmax(passed[..., ::-1], axis=-1), -1)
