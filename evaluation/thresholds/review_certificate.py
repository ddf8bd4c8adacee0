"""From one category's evidence to its review threshold: recall certified, kept, or insufficient evidence with the labels it would take."""

from typing import Any, NamedTuple

import numpy as np

from upheld.common.arrays import Bools, Floats, Ints
from upheld.common.params.evaluation import Thresholds
from upheld.evaluation.cube.bins import NUM_BINS, edges, snap_up
from upheld.evaluation.statistics import weighted
from upheld.evaluation.thresholds import sample_size
from upheld.evaluation.thresholds.tails import Tails, candidate_bins


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


def recall_bound(evidence: RecallEvidence, delta: float) -> RecallBound:
    """Lower bound of recall.

    Where all posts at or above a threshold are labelled, the violations there are known, and all of delta is spent on the misses;
    elsewhere each side gets half.

    Args:
        evidence: (...,).
        delta: probability, in (0, 1), that recall_lower lies above the true recall.
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


METHOD = "recall lower bound, gamma bounds with the frame's largest weight, fixed sequence from the lowest threshold upward"
UNIFORM_SHARE = 0.5  # least uniform share of the audit below the threshold; what the zero-miss floor assumes before any label


def decide(tails: Tails, section: Thresholds, kept: float | None, volume: float | None, seed: int) -> dict[str, Any]:
    """Decide the review threshold of one category.

    Args:
        tails: evidence above and below every threshold.
        kept: threshold in force of this same model, or None.
        volume: posts of this frame that the thresholds in force put before a person or remove (the champion's, for a new model), or None.
        seed: not used; the bound needs no simulation.

    Returns:
        the entry "review" of thresholds.json. There is always a threshold, or nothing would be reviewed: without a certificate the one in
        force, or the one with the champion's volume, or params' default_score.
    """
    if kept is not None:
        at = min(snap_up(kept), NUM_BINS - 1)
    elif volume:
        at = min(int(candidate_bins(tails.num_posts[:-1], np.array([volume]))[0]), NUM_BINS - 1)
    else:
        at = snap_up(section.default_score)
    bins = candidates(tails, at, section)
    bound = recall_bound(gather(tails, bins), section.delta)
    passed = passed_in_sequence(bound.recall_lower, section.recall_target)
    entry: dict[str, Any] = {"target": section.recall_target, "delta": section.delta, "method": METHOD, "seed": seed, "incumbent": kept}
    tested = np.append(True, passed[:-1])
    entry["path"] = [
        {
            "threshold": float(edges()[place]),
            "volume": int(tails.num_posts[place]),
            "n": int(tails.num_labels[0] - tails.num_labels[place]),
            "bound": float(bound.recall_lower[j]),
            "found_lower": float(bound.found_lower[j]),
            "missed_upper": float(bound.missed_upper[j]),
            "level": float(bound.delta_missed[j]),
            "tested": bool(tested[j]),
            "passed": bool(passed[j]),
        }
        for j, place in enumerate(bins)
    ]
    if passed.any():
        chosen = int(np.flatnonzero(passed)[-1])
        figures = _figures(tails, bins, bound, chosen)
        return entry | figures | {"outcome": "certified", "need_n": None, "need_threshold": None, "reason": None}
    here = int(np.flatnonzero(bins == at)[0])
    need_n, need_at, reason = _need(tails, bins[: here + 1][::-1], section)
    threshold, outcome = (float(edges()[at]), "insufficient") if kept is None else (kept, "kept")
    ruling = {"threshold": threshold, "outcome": outcome, "need_n": need_n, "need_threshold": need_at, "reason": reason}
    return entry | _figures(tails, bins, bound, here) | ruling


def gather(tails: Tails, bins: Ints) -> RecallEvidence:
    """What labels say about violations on both sides of each bin."""
    all_labelled = (tails.num_labels[bins] == tails.num_posts[bins]) & (tails.w[bins] == tails.num_labels[bins])
    return RecallEvidence(
        w_found=tails.w_violations[bins],
        w2_found=tails.w2_violations[bins],
        all_labelled=all_labelled,
        w_missed=np.maximum(tails.w_violations[0] - tails.w_violations[bins], 0.0),
        w2_missed=np.maximum(tails.w2_violations[0] - tails.w2_violations[bins], 0.0),
        max_weight_below=tails.max_weight_below[bins],
    )


def candidates(tails: Tails, at: int, section: Thresholds) -> Ints:
    """Bins to test, from the lowest threshold up: volumes in equal ratios, and the threshold that rules without a certificate."""
    shares = np.geomspace(section.review_start_share, section.review_end_share, section.num_candidates)
    bins = candidate_bins(tails.num_posts[:-1], shares * tails.num_posts[0])
    return np.unique(np.append(bins[bins < NUM_BINS], at))


def _need(tails: Tails, bins: Ints, section: Thresholds) -> tuple[int, float, str]:
    """Labels below the threshold that rules now until it would be certified, or below the next lower one for which that can be.

    Args:
        tails: evidence.
        bins: int64 (J,), the bin that rules and the candidates below it, downward.

    Returns:
        the labels, the threshold that they would certify, and why there are no fewer in words.
    """
    for at in bins:
        need_n = _need_at(tails, int(at), section)
        if need_n is not None:
            start = float(edges()[at])
            if at == bins[0]:
                return need_n, start, "the labels do not show the recall that is wanted at any threshold yet"
            misses = "at the threshold in force the labels show more misses than the target allows"
            return need_n, start, f"{misses}; at {start:.4f}, {need_n:,} labels would be enough"
    lowest = int(bins[-1])
    need_n, start = _without_miss(tails, lowest, section), float(edges()[lowest])
    misses = "at every threshold the labels show more misses than the target allows"
    return need_n, start, f"{misses}; at {start:.4f}, {need_n:,} labels without a miss would be enough"


def _need_at(tails: Tails, at: int, section: Thresholds) -> int | None:
    evidence = gather(tails, np.array([at]))
    bound = recall_bound(evidence, section.delta)
    num_labels = int(tails.num_labels[0] - tails.num_labels[at])
    if num_labels == 0 or bound.found_lower[0] == 0:
        return _without_miss(tails, at, section)
    missed = np.concatenate([evidence.w_missed, evidence.w2_missed])
    max_weight, found, delta_missed = float(tails.max_weight_below[at]), float(bound.found_lower[0]), float(bound.delta_missed[0])
    need_n = sample_size.labels_below(num_labels, missed, max_weight, found, section.recall_target, delta_missed, section.power)
    return None if need_n is None else max(need_n, num_labels + 1)  # the labels there are did not do


def _without_miss(tails: Tails, at: int, section: Thresholds) -> int:
    """The zero-miss floor, with the violations found so far, or one."""
    num_below, num_found = float(tails.num_posts[0] - tails.num_posts[at]), max(float(tails.w_violations[at]), 1.0)
    return sample_size.labels_below_without_miss(num_below, num_found, section.recall_target, section.delta / 2, UNIFORM_SHARE)


def _figures(tails: Tails, bins: Ints, bound: RecallBound, j: int) -> dict[str, Any]:
    below = int(tails.num_labels[0] - tails.num_labels[bins[j]])
    weight = float(tails.max_weight_below[bins[j]])
    return {
        "threshold": float(edges()[bins[j]]),
        "bound": float(bound.recall_lower[j]),
        "n": below,
        "n_eff": float(tails.w[0] - tails.w[bins[j]]) / weight if weight > 0 else 0.0,
    }
