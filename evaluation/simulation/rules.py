"""Compare rules for an automatic-removal threshold, ours and those it replaces, on the same audits of a world whose truth is known."""

from typing import NamedTuple

import numpy as np
from scipy.special import betainc, ndtr

from upheld.common.arrays import Bools, Floats, Ints
from upheld.common.params import params
from upheld.common.params.evaluation import Thresholds
from upheld.evaluation.audit import design as allocation
from upheld.evaluation.audit.design import ZONES, Posts, Wanted, design_below
from upheld.evaluation.simulation import worlds
from upheld.evaluation.simulation.worlds import Course, World
from upheld.evaluation.thresholds import fallback_procedure
from upheld.evaluation.thresholds.fallback_procedure import Evidence

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


class Design(NamedTuple):
    """How `upheld audit-sample` sees a world: the incumbent's bin, and of each zone its bins (4096,), its posts and what they want.

    Scores are calibrated, as those that a model routes by are.
    """

    start: int
    bins: dict[str, Bools]
    posts: dict[str, Posts]
    wants: dict[str, Wanted]


def incumbent_bin(truth: World, section: Thresholds) -> int:
    """Find the bin from which the system in force removes: the lowest that truly meets the target; `start_score` where none does."""
    lowest = truth.oracle_bin(section.precision_target)
    return lowest if lowest < worlds.NUM_BINS else int(section.start_score * worlds.NUM_BINS)


def design(truth: World, settings: params.Params) -> Design:
    """Lay out the zones of the system in force, which removes from `incumbent_bin` and queues from where recall meets its target.

    Args:
        settings: thresholds, and what `audit-sample` reads.
    """
    start = incumbent_bin(truth, settings.thresholds)
    num = truth.posts_a_week * (truth.violating + truth.benign)
    prob = np.divide(truth.posts_a_week * truth.violating, num, out=np.zeros_like(num), where=num > 0)
    queued = int(np.flatnonzero(truth.recall_above >= settings.thresholds.recall_target)[-1])
    place = np.arange(worlds.NUM_BINS)
    zones = dict(zip(ZONES, (place >= start, (place >= queued) & (place < start), (place < queued) & (place < start)), strict=True))
    bins = {zone: there & (num > 0) for zone, there in zones.items() if num[there].sum() > 0}
    posts = {zone: Posts(prob[there], num[there], np.full(int(there.sum()), "en", object)) for zone, there in bins.items()}
    return Design(start, bins, posts, allocation.wanted(posts, settings))


def audit(truth: World, drawn: Design, settings: params.Params, budget: int, num_weeks: int, seed: int) -> Audits:
    """Draw the three-zone audit of `upheld audit-sample` in many weeks.

    Args:
        drawn: of `design`.
        settings: thresholds, and what `audit-sample` reads.
        budget: labels a week, as an expectation.
        num_weeks: W.
        seed: of the draws.

    Returns:
        what people found along the path of candidates.
    """
    section, volume = settings.thresholds, float(truth.volume_above[drawn.start])
    path = worlds.course(truth, volume, section.start_shares, section.num_candidates, section.max_volume)
    labels = np.zeros(worlds.NUM_BINS)
    for part in allocation.allocate({"any": drawn.posts}, {"any": drawn.wants}, budget, settings.audit_sample):
        own, flat = drawn.posts[part.zone], part.labels / drawn.posts[part.zone].num.sum()
        prob = design_below(own.prob, own.num, part.labels, settings.audit_sample) if part.zone == "none" else flat
        labels[drawn.bins[part.zone]] = own.num * prob
    expected = np.diff(labels[::-1].cumsum()[::-1][path.bins], prepend=0.0)
    audits = worlds.draw_audits(truth, path, expected, num_weeks, np.random.default_rng(seed))
    return Audits(path, *audits, np.diff(path.volumes, prepend=0.0) / expected)


def choose(rule: str, audits: Audits, section: Thresholds) -> Ints:
    """Choose, by one rule, the candidate from which to remove in each week, int64 (W,); -1 where the rule abstains."""
    found = worlds.evidence(audits.num_labels, audits.num_errors, audits.weight)
    if rule == "naive":
        return worlds.naive_rule(found, section.precision_target)
    weights = fallback_procedure.start_weights(
        audits.path.volumes, audits.path.start_volume * np.array(section.start_shares), section.delta
    )
    if rule == "ours":
        return fallback_procedure.last_passed(fallback_procedure.certify(found, weights, section.precision_target).passed)
    sum_w2 = (audits.weight**2 * audits.num_labels).cumsum(-1)
    p_values = {"kish": _kish, "ht_normal": _ht_normal}[rule]
    tested = fallback_procedure.fallback(*p_values(found, sum_w2, section.precision_target), weights)
    return fallback_procedure.last_passed(tested.passed)


def _kish(found: Evidence, sum_w2: Floats, target: float) -> tuple[Floats, Floats]:
    """Run a binomial test on (sum w)^2 / sum w^2 labels: (p-value, p-value without an error). Source: Kish (1965), Survey Sampling."""
    num = np.divide(found.sum_w**2, sum_w2, out=np.zeros_like(sum_w2), where=sum_w2 > 0)
    seen = np.divide(found.sum_w_errors * num, found.sum_w, out=np.zeros_like(num), where=found.sum_w > 0)
    p_value = np.where(num > seen, 1 - betainc(seen + 1, np.maximum(num - seen, 1e-9), 1 - target), 1.0)
    return p_value, np.power(target, num)


def _ht_normal(found: Evidence, sum_w2: Floats, target: float) -> tuple[Floats, Floats]:
    """Run the test of the normal approximation: (p-value, 0 where there is a label); an audit without an error leaves it no doubt."""
    total = np.where(found.sum_w > 0, found.sum_w, 1.0)
    rate = found.sum_w_errors / total
    variance = found.sum_w2_errors - 2 * rate * found.sum_w2_errors + rate**2 * sum_w2
    error = np.sqrt(np.maximum(variance, 0.0)) / total
    gap = rate - (1 - target)
    sure = np.where(gap < 0, 0.0, 1.0)
    p_value = np.where(error > 0, ndtr(gap / np.where(error > 0, error, 1.0)), sure)
    nothing = np.where(found.num_labels > 0, 0.0, 1.0)
    return np.maximum(p_value, nothing), nothing
