"""Divide an audit's budget: how many labels each zone of each category needs to settle its question, how many it gets, and with which
probability each row is drawn.

The need is predicted from the scores, which are probabilities. No label enters, so that a draw can be repeated
(docs/statistics.md, Audits).
"""

import hmac
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from upheld.common.arrays import Floats
from upheld.common.errors import BadUse
from upheld.common.params import params
from upheld.common.params.evaluation import AuditSample
from upheld.evaluation.metrics import fairness
from upheld.evaluation.report.words import percent
from upheld.evaluation.report.words import share as in_percent
from upheld.evaluation.thresholds import fallback_procedure, sample_size

ZONES = ("auto_remove", "review", "none")


def inclusion_probs(frame: pd.DataFrame, labels: Mapping[tuple[str, str], float], settings: AuditSample) -> NDArray[np.float64]:
    """Compute the probability with which each row is drawn.

    Automatic removals and the review queue are drawn flat within a category (a certificate wants equal weights there);
    posts that nobody was shown follow `design_below`.

    Args:
        frame: category, score, action.
        labels: (category, zone) -> expected number of draws, of every one that the frame has.
        settings: `uniform_share`, `min_inclusion_prob`.

    Returns:
        float64 (N,) in [min_inclusion_prob, 1], summing to `labels` in each category and zone.
    """
    prob = np.empty(len(frame))
    scores, low = frame.score.to_numpy(dtype=np.float64), settings.min_inclusion_prob
    positions = frame.groupby(["category", "action"]).indices
    for category, zone in labels:
        members = positions[category, zone]
        part, num = labels[category, zone], np.ones(len(members))
        prob[members] = design_below(scores[members], num, part, settings) if zone == "none" else np.clip(part / len(members), low, 1.0)
    return prob


def design_below(score: NDArray[np.float64], num: NDArray[np.float64], labels: float, settings: AuditSample) -> NDArray[np.float64]:
    """Compute the probability with which posts below both thresholds are drawn.

    Args:
        score: float64 (N,) in [0, 1].
        num: float64 (N,), posts that have it.
        labels: expected number of draws.
        settings: `uniform_share`, `min_inclusion_prob`.

    Returns:
        float64 (N,): uniform_share * uniform + (1 - uniform_share) * sqrt(score * (1 - score)), each normalised, clipped to
        [min_inclusion_prob, 1]; times `num` it sums to `labels`.

    Source: our own; docs/statistics.md, Audits.
    """
    doubt, low = np.sqrt(score * (1 - score)), settings.min_inclusion_prob
    uneven = doubt / (num * doubt).sum() if (num * doubt).sum() > 0 else 1 / num.sum()
    shape = settings.uniform_share / num.sum() + (1 - settings.uniform_share) * uneven
    there = num > 0
    prob = np.full(len(score), low)
    prob[there] = spread(num[there] * shape[there], labels, low * num[there], num[there]) / num[there]
    return prob


def spread(shape: NDArray[np.float64], total: float, low: Any, high: Any) -> NDArray[np.float64]:
    """Find amounts proportional to `shape` that lie between `low` and `high` and sum to `total`.

    Args:
        shape: float64 (N,), non-negative.
        total: between the sums of `low` and of `high`.
        low: scalar or (N,).
        high: scalar or (N,).

    Returns:
        float64 (N,): clip(factor * shape, low, high) with the factor found by bisection.
    """
    shape = np.maximum(shape, shape.max() * 1e-12 if shape.max() > 0 else 1.0)
    below, above = 0.0, 1.0
    while np.clip(above * shape, low, high).sum() < total * (1 - 1e-12) and above < 1e30:
        above *= 2
    for _ in range(200):
        factor = (below + above) / 2
        below, above = (factor, above) if np.clip(factor * shape, low, high).sum() < total else (below, factor)
    amounts: NDArray[np.float64] = np.clip(above * shape, low, high)
    return amounts


def permanent_number(secret: bytes, post_id: str, category: str) -> float:
    """Compute the number in [0, 1) that belongs to a post and category for good: 53 bits of HMAC-SHA256 of `post_id NUL category`."""
    mac = hmac.digest(secret, f"{post_id}\0{category}".encode(), "sha256")
    return (int.from_bytes(mac[:8], "big") >> 11) / 2**53


class Posts(NamedTuple):
    """Posts of one zone: prob of a violation and how many posts have it, float64 (N,) each, and the language of each, (N,) str."""

    prob: Floats
    num: Floats
    language: np.ndarray[tuple[int, ...], np.dtype[np.object_]]


class Wanted(NamedTuple):
    """Labels that a zone needs this week to settle its question (None where no number would), and the reason in words."""

    labels: int | None
    reason: str


class Part(NamedTuple):
    """One zone of one category: its posts, what it wants, and the labels it gets, as an expectation."""

    category: str
    zone: str
    posts: int
    wanted: int | None
    labels: float
    reason: str


def wanted(zones: Mapping[str, Posts], settings: params.Params) -> dict[str, Wanted]:
    """Predict how many labels would settle the question of each zone of one category.

    Args:
        zones: posts by zone; a zone without posts is left out.
        settings: thresholds, fairness, audit_sample, seed.
    """
    judges = {"auto_remove": _removed, "review": _queued, "none": _passed}
    return {zone: judges[zone](zones, settings) for zone in ZONES if zone in zones}


def share_out(wants: Sequence[float], sizes: Floats, budget: float, settings: AuditSample) -> Floats:
    """Divide a budget of labels over the parts of the frame.

    A part of the budget is spread evenly, so that every zone is looked at every week. The rest settles one question after the other, the
    cheapest first, for half an answer certifies nothing; what is left over goes evenly to all.

    Args:
        wants: (N,), labels wanted; 0 for nothing.
        sizes: float64 (N,), posts of each part, > 0.
        budget: labels, at least sizes * min_inclusion_prob in all.
        settings: `floor_share` and `min_inclusion_prob`.

    Returns:
        float64 (N,), between sizes * min_inclusion_prob and sizes, summing to the budget or to all posts; none falls as the budget rises.
    """
    least = sizes * settings.min_inclusion_prob
    total = min(float(budget), float(sizes.sum()))
    even = np.ones(len(sizes))
    labels = spread(even, max(settings.floor_share * total, float(least.sum())), least, sizes)
    left = total - labels.sum()
    for k in np.argsort(wants, kind="stable"):
        added = float(np.clip(min(wants[k], sizes[k]) - labels[k], 0.0, max(left, 0.0)))
        labels[k] += added
        left -= added
    return spread(even, total, labels, sizes) if left > 1e-9 else labels


def allocate(
    categories: Mapping[str, Mapping[str, Posts]], wants: Mapping[str, Mapping[str, Wanted]], budget: int, settings: AuditSample
) -> list[Part]:
    """Divide a budget over the zones of all categories.

    Args:
        categories: category -> zone -> its posts.
        wants: of each category, as `wanted` says.
        budget: expected number of draws.
        settings: see `share_out`.

    Raises:
        BadUse: `budget` is below what the smallest allowed probability takes.
    """
    cells = [(category, zone) for category, zones in sorted(categories.items()) for zone in ZONES if zone in zones]
    sizes = np.array([categories[category][zone].num.sum() for category, zone in cells])
    low = settings.min_inclusion_prob
    if sizes.sum() * low > budget * (1 + 1e-9):
        rows = f"{sizes.sum():.0f} rows at audit_sample.min_inclusion_prob {low}"
        raise BadUse(f"--budget {budget}: {rows} need {int(np.ceil(sizes.sum() * low))}")
    asked = [wants[category][zone] for category, zone in cells]
    labels = share_out([want.labels or 0 for want in asked], sizes, budget, settings)
    return [
        Part(category, zone, round(size), want.labels, float(num), want.reason)
        for (category, zone), size, want, num in zip(cells, sizes, asked, labels, strict=True)
    ]


def _removed(zones: Mapping[str, Posts], settings: params.Params) -> Wanted:
    """Predict the labels until automatic removal would be certified, at the precision that the scores expect."""
    section, posts = settings.thresholds, zones["auto_remove"]
    order = np.argsort(-posts.prob, kind="stable")
    num, errors = posts.num[order].cumsum(), (posts.num * (1 - posts.prob))[order].cumsum()
    size, precision = num[-1], 1 - errors[-1] / num[-1]
    ranks = size * np.union1d(np.arange(1, section.num_candidates + 1) / section.num_candidates, section.start_shares)
    at = np.unique(np.minimum(np.searchsorted(num, ranks[ranks <= size * (1 + 1e-12)] * (1 - 1e-12)), len(num) - 1))
    volumes, rates = num[at], np.diff(errors[at], prepend=0.0) / np.diff(num[at], prepend=0.0)
    weights = fallback_procedure.start_weights(volumes, size * np.array(section.start_shares), section.delta)
    need = sample_size.labels_for_path(volumes, rates, weights, section.precision_target, section.power, settings.seed)
    expects = f"Going by its scores, the model is right in about {in_percent(precision)} of removals."
    if need is None:
        why = f"More labels cannot certify {percent(section.precision_target)}; these are enough to watch for drift."
        return Wanted(None, f"{expects} {why}")
    what = f"{expects} {need:,} labels certify {percent(section.precision_target)} with a chance of {percent(section.power)}."
    return Wanted(need, what + ("" if need <= size else " There are fewer posts than that."))


def _queued(zones: Mapping[str, Posts], settings: params.Params) -> Wanted:
    """Predict the labels until every language shows whether its harmless posts are flagged more often than the others'."""
    section, queue = settings.fairness, zones["review"]
    harmless = {zone: float((posts.num * (1 - posts.prob)).sum()) for zone, posts in zones.items()}
    flagged = (harmless["review"] + harmless.get("auto_remove", 0.0)) / max(sum(harmless.values()), 1e-12)
    languages = sorted(set(queue.language))
    if len({name for posts in zones.values() for name in posts.language}) < 2:
        return Wanted(0, "There is one language, so nothing to compare; these are enough to see how many queued posts are violations.")
    trials = float(fairness.need_n(np.array([flagged]), np.array([section.tau_gap]))[0])
    needs = {}
    for name in languages:
        own = queue.language == name
        size, share = queue.num[own].sum(), 1 - np.average(queue.prob[own], weights=queue.num[own])
        # Trials count by their events: of flagged harmless posts, which the queue holds, as many as an even sample would meet.
        needs[name] = min(float(size), np.ceil(trials * min(flagged + section.tau_gap, 1.0) / max(share, 1e-3)))
    most = max(needs, key=lambda name: needs[name])
    # The draw is flat over languages, so the queue is drawn as densely as the language that needs it most.
    density = max(needs[name] / queue.num[queue.language == name].sum() for name in languages)
    need = int(np.ceil(density * queue.num.sum()))
    gap = f"a gap of {100 * section.tau_gap:g} points in flagged harmless posts between {len(languages)} languages"
    return Wanted(need, f"To see {gap} takes up to {needs[most]:,.0f} labels a language ({most} needs the most).")


def _passed(zones: Mapping[str, Posts], settings: params.Params) -> Wanted:
    """Predict the labels a week until the window of weeks could certify recall, at the misses that the scores expect."""
    section, posts, weeks = settings.thresholds, zones["none"], settings.thresholds.window_weeks
    found = sum(float((zones[zone].num * zones[zone].prob).sum()) for zone in ("auto_remove", "review") if zone in zones)
    missed = float((posts.num * posts.prob).sum())
    if found < 1 or missed >= found * (1 / section.recall_target - 1):
        recall = found / max(found + missed, 1e-12)
        finds = f"finds about {in_percent(recall)} of violations" if found else "finds no violation"
        expects = f"Going by its scores, the model {finds}."
        return Wanted(
            None, f"{expects} More labels cannot certify {percent(section.recall_target)}; the model or the threshold has to change."
        )
    share, size = settings.audit_sample.uniform_share, float(posts.num.sum())
    least = sample_size.labels_below_without_miss(size, found, section.recall_target, section.delta / 2, share)
    prob = design_below(posts.prob, posts.num, min(least / weeks, size), settings.audit_sample)
    sums = weeks * np.array([missed, (posts.num * posts.prob / prob).sum()])
    largest = float((1 / prob).max())
    need = sample_size.labels_below(
        max(int((posts.num * prob).sum() * weeks), 1), sums, largest, weeks * found, section.recall_target, section.delta / 2, section.power
    )
    zero = f"{least:,} labels certify that {percent(section.recall_target)} of violations are found, if none of them is a violation"
    if need is None:
        return Wanted(None, f"{zero}. With the misses that the scores expect, no number would.")
    return Wanted(-(-need // weeks), f"{zero}; {need:,} with the misses that the scores expect, an equal part in each of {weeks} weeks.")
