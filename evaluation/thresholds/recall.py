"""Bound recall from labels above a review threshold and a weighted sample below it (docs/statistics.md, Review threshold)."""

from typing import NamedTuple

import numpy as np

from upheld.common.arrays import Bools, Floats
from upheld.evaluation.statistics import weighted


class RecallBound(NamedTuple):
    """Bounds at each threshold, arrays (...,).

    found_lower: lower bound of the violations at or above it.
    missed_upper: upper bound of those below it.
    recall_lower: found_lower / (found_lower + missed_upper); 0 where both are 0.
    delta_missed: error spent on missed_upper; delta less this went into found_lower.
    """

    found_lower: Floats
    missed_upper: Floats
    recall_lower: Floats
    delta_missed: Floats


class RecallEvidence(NamedTuple):
    """What labels say about violations on both sides of each threshold, arrays (...,).

    w_found, w2_found: sums of w and w squared over labelled violations at or above it; w = 1 / inclusion_prob.
    all_labelled: whether every post at or above it is labelled and was drawn with certainty.
    w_missed, w2_missed: the same sums below it.
    max_weight_below: largest 1 / inclusion_prob of the frame below it; 0 where the frame has no post there.
    """

    w_found: Floats
    w2_found: Floats
    all_labelled: Bools
    w_missed: Floats
    w2_missed: Floats
    max_weight_below: Floats


def bound(evidence: RecallEvidence, delta: float) -> RecallBound:
    """Lower bound of recall.

    Where all posts at or above a threshold are labelled, the violations there are known, and all of delta is spent on the misses;
    elsewhere each side gets half.

    Args:
        evidence: (...,).
        delta: probability, in (0, 1), that recall_lower lies above the true recall.

    Returns:
        the bounds.
    """
    delta_missed = np.where(evidence.all_labelled, delta, delta / 2)
    found_lower = np.where(evidence.all_labelled, evidence.w_found, weighted.total_lower(evidence.w_found, evidence.w2_found, delta / 2))
    missed_upper = weighted.total_upper(evidence.w_missed, evidence.w2_missed, evidence.max_weight_below, delta_missed)
    total = found_lower + missed_upper
    recall_lower = np.divide(found_lower, total, out=np.zeros_like(total), where=total > 0)
    return RecallBound(found_lower, missed_upper, recall_lower, delta_missed)


def passed_in_sequence(recall_lower: Floats, target: float) -> Bools:
    """Test along the last axis, from the lowest threshold upward, until the first failure; a fixed sequence shares out no level."""
    return np.asarray(np.logical_and.accumulate(recall_lower >= target, axis=-1), bool)
