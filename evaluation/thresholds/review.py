"""From one category's evidence to its review threshold: recall certified, kept, or insufficient evidence with the labels it would take."""

from typing import Any

import numpy as np

from upheld.common.arrays import Bools, Ints
from upheld.common.params.evaluation import Thresholds
from upheld.evaluation.cube.bins import NUM_BINS, edges, snap_up
from upheld.evaluation.thresholds import recall, sample_size
from upheld.evaluation.thresholds.recall import RecallBound, RecallEvidence
from upheld.evaluation.thresholds.tails import Tails, candidate_bins

METHOD = "recall lower bound, gamma bounds with the frame's largest weight, fixed sequence from the lowest threshold upward"
UNIFORM_SHARE = 0.5  # least uniform share of the audit below the threshold; what the zero-miss floor assumes before any label


def decide(tails: Tails, section: Thresholds, kept: float | None, volume: float | None, seed: int) -> dict[str, Any]:
    """Decide the review threshold of one category.

    Args:
        tails: evidence above and below every threshold.
        section: params.thresholds.
        kept: threshold in force of this same model, or None.
        volume: posts of this frame that the thresholds in force put before a person or remove (the champion's, for a new model), or None.
        seed: not used; the bound needs no simulation.

    Returns:
        the entry "review" of thresholds.json. There is always a threshold, or nothing would be reviewed: without a certificate the one in
        force, or the one with the champion's volume, or params' default_score.
    """
    at = _fallback_bin(tails, section, kept, volume)
    bins = candidates(tails, at, section)
    bound = recall.bound(gather(tails, bins), section.delta)
    passed = recall.passed_in_sequence(bound.recall_lower, section.recall_target)
    told = {"target": section.recall_target, "delta": section.delta, "method": METHOD, "seed": seed, "incumbent": kept}
    told["path"] = _told_path(bins, tails, bound, passed)
    if passed.any():
        chosen = int(np.flatnonzero(passed)[-1])
        return (
            told | _figures(tails, bins, bound, chosen) | {"outcome": "certified", "need_n": None, "need_threshold": None, "reason": None}
        )
    here = int(np.flatnonzero(bins == at)[0])
    need_n, need_at, reason = _need(tails, bins[: here + 1][::-1], section)
    return (
        told
        | _figures(tails, bins, bound, here)
        | {
            "threshold": kept if kept is not None else float(edges()[at]),
            "outcome": "insufficient" if kept is None else "kept",
            "need_n": need_n,
            "need_threshold": need_at,
            "reason": reason,
        }
    )


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


def _fallback_bin(tails: Tails, section: Thresholds, kept: float | None, volume: float | None) -> int:
    if kept is not None:
        return min(snap_up(kept), NUM_BINS - 1)
    if volume:
        return min(int(candidate_bins(tails.num_posts[:-1], np.array([volume]))[0]), NUM_BINS - 1)
    return snap_up(section.default_score)


def _need(tails: Tails, bins: Ints, section: Thresholds) -> tuple[int, float, str]:
    """Labels below the threshold that rules now until it would be certified, or below the next lower one for which that can be.

    Args:
        tails: evidence.
        bins: int64 (J,), the bin that rules and the candidates below it, downward.
        section: params.thresholds.

    Returns:
        the labels, the threshold that they would certify, and why there are no fewer in words.
    """
    for at in bins:
        need_n = _need_at(tails, int(at), section)
        if need_n is not None:
            start = float(edges()[at])
            if at == bins[0]:
                return need_n, start, "the labels do not show the recall that is wanted at any threshold yet"
            return (
                need_n,
                start,
                (
                    "at the threshold in force the labels show more misses than the target allows; "
                    f"at {start:.4f}, {need_n:,} labels would be enough"
                ),
            )
    lowest = int(bins[-1])
    need_n, start = _without_miss(tails, lowest, section), float(edges()[lowest])
    return (
        need_n,
        start,
        (
            "at every threshold the labels show more misses than the target allows; "
            f"at {start:.4f}, {need_n:,} labels without a miss would be enough"
        ),
    )


def _need_at(tails: Tails, at: int, section: Thresholds) -> int | None:
    evidence = gather(tails, np.array([at]))
    bound = recall.bound(evidence, section.delta)
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


def _told_path(bins: Ints, tails: Tails, bound: RecallBound, passed: Bools) -> list[dict[str, Any]]:
    tested = np.append(True, passed[:-1])
    return [
        {
            "threshold": float(edges()[at]),
            "volume": int(tails.num_posts[at]),
            "n": int(tails.num_labels[0] - tails.num_labels[at]),
            "bound": float(bound.recall_lower[j]),
            "found_lower": float(bound.found_lower[j]),
            "missed_upper": float(bound.missed_upper[j]),
            "level": float(bound.delta_missed[j]),
            "tested": bool(tested[j]),
            "passed": bool(passed[j]),
        }
        for j, at in enumerate(bins)
    ]
