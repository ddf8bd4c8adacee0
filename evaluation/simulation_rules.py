"""Rules for an automatic-removal threshold, ours and those it replaces, on the same audits of a world whose truth is known."""

from typing import NamedTuple

import numpy as np
from scipy.special import betainc, ndtr

from evaluation import removal, simulation
from evaluation.intervals import Floats
from evaluation.removal import Evidence, Ints
from evaluation.sampling import spread
from evaluation.simulation import Course, World
from feature_store.params_evaluation import AuditSample, Thresholds

RULES = {
    "ours": "fallback procedure on FF-beta p-values with the frame's largest weight",
    "naive": "the lowest threshold whose weighted empirical precision meets the target",
    "kish": "the same procedure on a binomial test of Kish's effective number of labels",
    "ht_normal": "the same procedure on the normal approximation of the Horvitz-Thompson estimate",
}


class Audits(NamedTuple):
    """Audits of W weeks along one path: labels and errors that each candidate adds, float64 (W, J), weight of each label there, (J,)."""

    path: Course
    num_labels: Floats
    num_errors: Floats
    weight: Floats


def incumbent_bin(truth: World, section: Thresholds) -> int:
    """The bin from which the system in force removes: the lowest that truly meets the target; `start_score` where none does."""
    lowest = truth.oracle_bin(section.precision_target)
    return lowest if lowest < simulation.NUM_BINS else int(section.start_score * simulation.NUM_BINS)


def audit(truth: World, section: Thresholds, design: AuditSample, budget: int, num_weeks: int, seed: int) -> Audits:
    """Draw the three-zone audit of `upheld audit-sample` in many weeks.

    The system in force removes from `incumbent_bin` and queues from where recall meets its target.

    Args:
        truth: the world.
        section: params.thresholds.
        design: params.audit_sample: how the budget is spread over the zones.
        budget: labels a week, as an expectation.
        num_weeks: W.
        seed: of the draws.

    Returns:
        what people found along the path of candidates.
    """
    start = incumbent_bin(truth, section)
    volume = float(truth.volume_above[start])
    path = simulation.course(truth, volume, section.start_shares, section.num_candidates, section.max_volume)
    labels_above = _labels_by_bin(truth, start, section.recall_target, design, budget)[::-1].cumsum()[::-1]
    expected = np.diff(labels_above[path.bins], prepend=0.0)
    drawn = simulation.draw_audits(truth, path, expected, num_weeks, np.random.default_rng(seed))
    return Audits(path, *drawn, np.diff(path.volumes, prepend=0.0) / expected)


def _labels_by_bin(truth: World, start: int, recall_target: float, design: AuditSample, budget: int) -> Floats:
    """Expected labels in each bin, float64 (4096,): zones as `sampling.inclusion_probs` draws them, posts counted by bin."""
    posts = truth.posts_a_week * (truth.violating + truth.benign)
    queued = int(np.flatnonzero(truth.recall_above >= recall_target)[-1])
    place = np.arange(simulation.NUM_BINS)
    zones = [place >= start, (place >= queued) & (place < start), (place < queued) & (place < start)]
    sizes = np.array([posts[zone].sum() for zone in zones])
    shares = np.where(sizes > 0, [design.share_auto_remove, design.share_review, design.share_none], 0.0)
    low = design.min_inclusion_prob
    parts = spread(shares, min(budget, float(sizes.sum())), low * sizes, sizes)
    score = (place + 0.5) / simulation.NUM_BINS
    doubt = np.sqrt(score * (1 - score))
    labels = np.zeros(simulation.NUM_BINS)
    for zone, part, passed in zip(zones, parts, (False, False, True), strict=True):
        if part > 0:
            there = posts[zone]
            uneven = (1 - design.uniform_share) * doubt[zone] / (there * doubt[zone]).sum()
            shape = design.uniform_share / there.sum() + uneven if passed else np.ones(len(there))
            labels[zone] = spread(there * shape, float(part), low * there, there)
    return labels


def choose(rule: str, audits: Audits, section: Thresholds) -> Ints:
    """Which candidate a rule removes from in each week, int64 (W,); -1 where it abstains."""
    found = simulation.evidence(audits.num_labels, audits.num_errors, audits.weight)
    if rule == "naive":
        return simulation.naive_rule(found, section.precision_target)
    weights = removal.start_weights(audits.path.volumes, audits.path.start_volume * np.array(section.start_shares), section.delta)
    if rule == "ours":
        return removal.last_passed(removal.certify(found, weights, section.precision_target).passed)
    sum_w2 = (audits.weight**2 * audits.num_labels).cumsum(-1)
    p_values = {"kish": _kish, "ht_normal": _ht_normal}[rule]
    tested = removal.fallback(*p_values(found, sum_w2, section.precision_target), weights)
    return removal.last_passed(tested.passed)


def _kish(found: Evidence, sum_w2: Floats, target: float) -> tuple[Floats, Floats]:
    """(p-value, p-value without an error) of a binomial test on (sum w)^2 / sum w^2 labels. Source: Kish (1965), Survey Sampling."""
    num = np.divide(found.sum_w**2, sum_w2, out=np.zeros_like(sum_w2), where=sum_w2 > 0)
    seen = np.divide(found.sum_w_errors * num, found.sum_w, out=np.zeros_like(num), where=found.sum_w > 0)
    p_value = np.where(num > seen, 1 - betainc(seen + 1, np.maximum(num - seen, 1e-9), 1 - target), 1.0)
    return p_value, np.power(target, num)


def _ht_normal(found: Evidence, sum_w2: Floats, target: float) -> tuple[Floats, Floats]:
    """(p-value, 0 where there is a label) of the normal approximation; an audit without an error leaves it no doubt."""
    total = np.where(found.sum_w > 0, found.sum_w, 1.0)
    rate = found.sum_w_errors / total
    variance = found.sum_w2_errors - 2 * rate * found.sum_w2_errors + rate**2 * sum_w2
    error = np.sqrt(np.maximum(variance, 0.0)) / total
    gap = rate - (1 - target)
    sure = np.where(gap < 0, 0.0, 1.0)
    p_value = np.where(error > 0, ndtr(gap / np.where(error > 0, error, 1.0)), sure)
    nothing = np.where(found.num_labels > 0, 0.0, 1.0)
    return np.maximum(p_value, nothing), nothing
