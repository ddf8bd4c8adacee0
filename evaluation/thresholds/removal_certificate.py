"""From one category's evidence to its automatic-removal threshold: certified, kept or abstained, and in which languages."""

from typing import Any

import numpy as np

from upheld.common.arrays import Floats, Ints
from upheld.common.params.evaluation import Thresholds
from upheld.evaluation.cube.bins import NUM_BINS, centres, edges, snap_up
from upheld.evaluation.cube.cube import LABELS, Cube, Moment, cut, cut_max_weight
from upheld.evaluation.statistics import weighted
from upheld.evaluation.thresholds import fallback_procedure, sample_size
from upheld.evaluation.thresholds.fallback_procedure import Evidence
from upheld.evaluation.thresholds.tails import Tails, candidate_bins

METHOD = "learn-then-test, fallback procedure, FF-beta p-values with the frame's largest weight"
# Labels that the calibrated score counts for where need_n imagines the precision of a stretch of scores.
PRIOR_LABELS = 10.0


def decide(tails: Tails, section: Thresholds, kept: float | None, volume: float | None, seed: int) -> dict[str, Any]:
    """Decide the automatic-removal threshold of one category.

    Args:
        tails: evidence above every threshold.
        kept: threshold in force of this same model, or None.
        volume: posts of this frame that the thresholds in force remove (of the champion's, where the model is new), or None.
        seed: of the simulation behind need_n.

    Returns:
        the entry "auto_remove" of thresholds.json without its languages.
    """
    start_volume = volume or tails.volume_at(section.start_score)
    entry: dict[str, Any] = {"target": section.precision_target, "delta": section.delta, "method": METHOD, "seed": seed, "incumbent": kept}
    if start_volume == 0:
        nothing: dict[str, Any] = {"bound": None, "n": 0, "n_eff": 0.0, "need_n": None, "path": []}
        return entry | nothing | _unchanged(kept, f"no post scores {section.start_score} or more: there is nothing to test")
    bins = candidates(tails, start_volume, kept, section)
    evidence = gather(tails, bins)
    weights = fallback_procedure.start_weights(tails.num_posts[bins], start_volume * np.array(section.start_shares), section.delta)
    path = fallback_procedure.certify(evidence, weights, section.precision_target)
    sums = (evidence.sum_w_errors, evidence.sum_w2_errors, evidence.sum_w, evidence.max_weight)
    num_effective = weighted.effective_counts(*sums)[1]
    entry["path"] = [
        {
            "threshold": float(edges()[at]),
            "volume": int(tails.num_posts[at]),
            "n": int(evidence.num_labels[j]),
            "n_eff": float(num_effective[j]),
            "p_value": float(path.p_value[j]),
            "level": float(path.level[j]),
            "tested": bool(path.tested[j]),
            "passed": bool(path.passed[j]),
        }
        for j, at in enumerate(bins)
    ]
    chosen = int(fallback_procedure.last_passed(path.passed))
    if chosen >= 0:
        figures = _figures(tails, int(bins[chosen]), float(path.level[chosen]))
        return entry | figures | {"threshold": float(edges()[bins[chosen]]), "outcome": "certified", "need_n": None, "reason": None}
    at = snap_up(kept) if kept is not None else int(bins[np.flatnonzero(weights)[-1]])
    need_n, assumed = _need(tails, bins, evidence, weights, at, section, seed)
    figures = _figures(tails, at, section.delta)
    why = ("no candidate passed its test" if path.tested.any() else "too few labels to test any candidate") + assumed
    most = _most(tails, at, section)
    if kept is not None and most < section.precision_target:
        kept, why = None, f"{why}; the threshold in force is contradicted: its precision is {most:.3f} at most"
    return entry | figures | {"need_n": need_n} | _unchanged(kept, why)


def candidates(tails: Tails, start_volume: float, kept: float | None, section: Thresholds) -> Ints:
    """Bins to test, from the highest threshold down: evenly spaced ranks, the starts of the chains, and the threshold in force."""
    ranks = section.max_volume * np.arange(1, section.num_candidates + 1) / section.num_candidates
    wanted = start_volume * np.concatenate([ranks, section.start_shares])
    bins = candidate_bins(tails.num_posts[:-1], np.minimum(wanted, tails.num_posts[0]))
    if kept is not None:
        in_force = min(snap_up(kept), NUM_BINS)
        # Where another bin removes the same posts, the one in force stands for both, so that "no change" is said as such.
        bins = np.append(bins[tails.num_posts[bins] != tails.num_posts[in_force]], in_force)
    bins = np.unique(bins[tails.num_posts[bins] > 0])[::-1]
    return np.asarray(bins, np.int64)


def gather(tails: Tails, bins: Ints) -> Evidence:
    """The evidence at or above each candidate bin."""
    return Evidence(
        num_labels=tails.num_labels[bins],
        sum_w_errors=np.maximum(tails.w - tails.w_violations, 0.0)[bins],
        sum_w2_errors=np.maximum(tails.w2 - tails.w2_violations, 0.0)[bins],
        sum_w=tails.w[bins],
        max_weight=tails.max_weight_above[bins],
    )


def languages(cube: Cube, threshold: float | None, section: Thresholds) -> dict[str, dict[str, Any]]:
    """In which languages automatic removal applies: where their own evidence does not contradict the target.

    Args:
        cube: of one category.
        threshold: the decided one; None: nowhere.

    Returns:
        language -> {"action": auto_remove or review, "bound": upper bound of its precision or None, "n", "reason": text or None}.
    """
    if threshold is None:
        nowhere = {"action": "review", "bound": None, "n": 0, "reason": "no automatic removal in this category"}
        return {name: dict(nowhere) for name in cube.languages}
    cuts = [[snap_up(threshold)]]
    above = cut(cube, cuts, ("language", "label"))[:, :, 1]  # (languages, labels, moments)
    labelled = above[:, LABELS.index("0")] + above[:, LABELS.index("1")]
    right = above[:, LABELS.index("1")]
    bound = weighted.rate_upper(
        right[:, Moment.W], right[:, Moment.W2], labelled[:, Moment.W], cut_max_weight(cube, cuts)[0, 1], section.delta
    )
    return {name: _language(int(labelled[k, Moment.N]), float(bound[k]), section) for k, name in enumerate(cube.languages)}


def _language(num_labels: int, bound: float, section: Thresholds) -> dict[str, Any]:
    if num_labels == 0:
        pooled = section.unknown_language == "pool"
        reason = "no evidence of its own: " + ("the pooled certificate is taken to hold" if pooled else "a person decides")
        return {"action": "auto_remove" if pooled else "review", "bound": None, "n": 0, "reason": reason}
    if bound < section.precision_target:
        against = f"its own labels put precision at {bound:.3f} at most, below {section.precision_target}"
        return {"action": "review", "bound": bound, "n": num_labels, "reason": against}
    return {"action": "auto_remove", "bound": bound, "n": num_labels, "reason": None}


def _figures(tails: Tails, at: int, level: float) -> dict[str, Any]:
    """Lower bound of precision at one bin, with what it rests on."""
    evidence = gather(tails, np.array([at]))
    sums = (evidence.sum_w_errors, evidence.sum_w2_errors, evidence.sum_w, evidence.max_weight)
    upper = float(weighted.rate_upper(*sums, level)[0])
    num_effective = float(weighted.effective_counts(*sums)[1][0])
    return {"bound": None if np.isnan(upper) else 1 - upper, "n": int(evidence.num_labels[0]), "n_eff": num_effective}


def _most(tails: Tails, at: int, section: Thresholds) -> float:
    """Upper bound of precision at one bin; NaN where nothing there is labelled."""
    right = (tails.w_violations[at], tails.w2_violations[at], tails.w[at], tails.max_weight_above[at])
    return float(weighted.rate_upper(*right, section.delta))


def _need(tails: Tails, bins: Ints, evidence: Evidence, weights: Floats, at: int, section: Thresholds, seed: int) -> tuple[int | None, str]:
    """Labels until the path would certify something, and what was assumed of precision to say so."""
    target, power, volumes = section.precision_target, section.power, tails.num_posts[bins]
    need_n = sample_size.labels_for_path(volumes, _imagined_error_rates(tails, bins, evidence), weights, target, power, seed)
    if need_n is not None:
        return need_n, ""
    if _most(tails, at, section) < target:
        return None, "; at the precision seen, more labels cannot certify the target"
    hoped = (1 + target) / 2
    need_n = sample_size.labels_for_path(volumes, np.full(len(bins), 1 - hoped), weights, target, power, seed)
    return (
        need_n,
        f"; the labels seen speak against the target but do not rule it out: the number needed assumes a precision of {hoped:.3f}",
    )


def _unchanged(kept: float | None, why: str) -> dict[str, Any]:
    """Nothing was certified: what is in force stays, or nothing is removed automatically."""
    if kept is None:
        return {"threshold": None, "outcome": "abstained", "reason": f"{why}; there is nothing to keep"}
    return {"threshold": kept, "outcome": "kept", "reason": why}


def _imagined_error_rates(tails: Tails, bins: Ints, evidence: Evidence) -> Floats:
    """Error rate of what each candidate adds to the one before: from its labels, and the calibrated score where labels are few."""
    posts = -np.diff(tails.num_posts)
    expected_errors = np.append((posts * (1 - centres()))[::-1].cumsum()[::-1], 0.0)[bins]
    added_posts, added_labels = np.diff(tails.num_posts[bins], prepend=0.0), np.diff(evidence.num_labels, prepend=0.0)
    prior = np.diff(expected_errors, prepend=0.0) / np.maximum(added_posts, 1.0)
    added_w, added_errors = np.diff(evidence.sum_w, prepend=0.0), np.diff(evidence.sum_w_errors, prepend=0.0)
    seen = np.divide(added_errors, added_w, out=np.zeros_like(added_w), where=added_w > 0)
    return np.clip((seen * added_labels + PRIOR_LABELS * prior) / (added_labels + PRIOR_LABELS), 0.0, 1.0)
