"""Compare each language (region, group) with the others and say what the evidence supports (STATISTICS.md, section 3)."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from evaluation import intervals, weighted
from evaluation.intervals import Floats

PASS, WARN, FAIL, INSUFFICIENT = "PASS", "WARN", "FAIL", "INSUFFICIENT"
# One-sided error and power behind need_n: 1.645 and 0.842 in the formula of STATISTICS.md section 3.
NEED_ALPHA, NEED_POWER = 0.05, 0.80


class Cells(NamedTuple):
    """Weighted counts of one rate, float64 (..., groups): leading axes are families (category, metric), the last one the groups compared.

    num_labels: labelled items at risk (for FPR: benign ones).
    sum_w_events, sum_w2_events: sums of w and w squared over events (for FPR: benign items that were flagged).
    sum_w, sum_w2: the same over all labelled items at risk.
    max_weight: largest frame weight of an item that could be an event (cube.cut_max_weight of the interval).
    """

    num_labels: Floats
    sum_w_events: Floats
    sum_w2_events: Floats
    sum_w: Floats
    sum_w2: Floats
    max_weight: Floats


class Verdicts(NamedTuple):
    """One verdict per cell, arrays (..., groups). value is NaN where undefined; need_n is NaN unless verdict is INSUFFICIENT."""

    value: Floats
    ci_low: Floats
    ci_high: Floats
    num_labels: Floats
    num_effective: Floats
    p_adjusted: Floats
    verdict: NDArray[np.str_]  # PASS, WARN, FAIL or INSUFFICIENT
    need_n: Floats
    reason: NDArray[np.object_]


class _Sides(NamedTuple):
    """Effective counts of each group (1) and of all others together (0)."""

    events_1: Floats
    trials_1: Floats
    events_0: Floats
    trials_0: Floats


def rate(cells: Cells, alpha: float) -> tuple[Floats, Floats, Floats, Floats]:
    """Each group's own rate with its interval.

    Args:
        cells: see Cells.
        alpha: two-sided error of the interval, half on each side.

    Returns:
        (value, ci_low, ci_high, num_effective), float64 (..., groups); NaN where nothing is at risk. Below: Clopper-Pearson on FF-beta's
        effective counts; above: FF-beta itself. Equal weights make both plain Clopper-Pearson.
    """
    events, trials = _effective(cells)
    low = intervals.clopper_pearson_lower(events, trials, alpha / 2)
    high = weighted.rate_upper(cells.sum_w_events, cells.sum_w2_events, cells.sum_w, cells.max_weight, alpha / 2)
    return intervals.rates(cells.sum_w_events, cells.sum_w), low, high, trials


def gap(cells: Cells, tau: float, alpha: float = 0.10, level: float = 0.05) -> Verdicts:
    """Rate of each group minus the rate of all others together.

    Args:
        cells: see Cells.
        tau: largest gap that is tolerated, in (0, 1).
        alpha: two-sided error of the Newcombe-Wilson interval.
        level: family-wise level of WARN, Holm over the groups of a family.

    Returns:
        FAIL where the lower bound exceeds tau; WARN where the gap exceeds tau and Holm's p-value of "no gap" is <= level; PASS where the
        upper bound is below tau; else INSUFFICIENT, with the labels at risk that a group would need.
    """
    sides = _sides(cells)
    low, high = intervals.newcombe_wilson(*sides, alpha)
    value = intervals.rates(sides.events_1, sides.trials_1) - intervals.rates(sides.events_0, sides.trials_0)
    tolerated = np.full(value.shape, tau)
    return _judge(cells, sides, (value, low, high), tau, tolerated, level)


def ratio(cells: Cells, tau: float, alpha: float = 0.10, level: float = 0.05) -> Verdicts:
    """Rate of each group over the rate of all others together.

    At base rates of half a percent an absolute gap hides a tenfold disparity; the ratio shows it.

    Args:
        cells: see Cells.
        tau: largest ratio that is tolerated, > 1.
        alpha: two-sided error of the interval (MOVER-R with Wilson limits).
        level: family-wise level of WARN, Holm over the groups of a family.

    Returns:
        as `gap`; undefined where the others' rate is 0.
    """
    sides = _sides(cells)
    low, high = intervals.ratio_wilson(*sides, alpha)
    others = intervals.rates(sides.events_0, sides.trials_0)
    value = np.divide(intervals.rates(sides.events_1, sides.trials_1), others, out=np.full(others.shape, np.nan), where=others > 0)
    return _judge(cells, sides, (value, low, high), tau, (tau - 1) * others, level)


def need_n(rate_0: Floats, difference: Floats) -> Floats:
    """Trials that tell rate_0 from rate_0 + difference: one-sided .05, power .80.

    Args:
        rate_0: (N,) in [0, 1], of the others.
        difference: (N,) > 0.

    Returns:
        float64 (N,), whole numbers; NaN where the rate is unknown or the difference is 0.

    Source: STATISTICS.md section 3, ((1.645 sqrt(p1 q1) + 0.842 sqrt(p0 q0)) / tau)^2 with p1 = p0 + tau.
    """
    rate_1 = np.minimum(rate_0 + difference, 1.0)
    z_alpha, z_power = float(-ndtri(NEED_ALPHA)), float(ndtri(NEED_POWER))
    spread = z_alpha * np.sqrt(rate_1 * (1 - rate_1)) + z_power * np.sqrt(rate_0 * (1 - rate_0))
    shape = np.broadcast(spread, difference).shape
    per_unit = np.divide(spread, difference, out=np.full(shape, np.nan), where=np.asarray(difference) > 0)
    return np.asarray(np.ceil(per_unit**2), np.float64)


def _effective(cells: Cells) -> tuple[Floats, Floats]:
    events, trials = weighted.effective_counts(cells.sum_w_events, cells.sum_w2_events, cells.sum_w, cells.max_weight)
    return np.minimum(events, trials), trials


def _sides(cells: Cells) -> _Sides:
    """Every group against the sum of the others of its family; their largest frame weight is that of the family."""
    rest = Cells(*(np.maximum(values.sum(axis=-1, keepdims=True) - values, 0.0) for values in cells))
    rest = rest._replace(max_weight=np.broadcast_to(cells.max_weight.max(axis=-1, keepdims=True), cells.max_weight.shape))
    return _Sides(*_effective(cells), *_effective(rest))


def _judge(cells: Cells, sides: _Sides, estimate: tuple[Floats, Floats, Floats], tau: float, difference: Floats, level: float) -> Verdicts:
    """Verdicts from a value with its interval; `difference` is what tau tolerates on the scale of rates."""
    value, low, high = estimate
    p_value = _p_values(sides)
    p_adjusted = np.apply_along_axis(intervals.holm, -1, p_value)
    fail = low > tau
    warn = ~fail & (p_adjusted <= level) & (value > tau)
    passed = ~fail & ~warn & (high < tau)
    verdict = np.select([fail, warn, passed], [FAIL, WARN, PASS], INSUFFICIENT)
    undecided = verdict == INSUFFICIENT
    needed = np.where(undecided, _needed(cells, sides, estimate, tau, difference), np.nan)
    reason = _reasons(sides, undecided, np.isnan(value))
    return Verdicts(value, low, high, cells.num_labels, sides.trials_1, p_adjusted, verdict, needed, reason)


def _p_values(sides: _Sides) -> Floats:
    """Of "no gap", one-sided; 1 where a group is at or below the others, which Holm never rejects and which costs no integral."""
    higher = intervals.rates(sides.events_1, sides.trials_1) > intervals.rates(sides.events_0, sides.trials_0)
    p_value = np.where((sides.trials_1 > 0) & (sides.trials_0 > 0), 1.0, np.nan)
    p_value[higher] = intervals.prob_gap_by_chance(*(side[higher] for side in sides))
    return p_value


def _needed(cells: Cells, sides: _Sides, estimate: tuple[Floats, Floats, Floats], tau: float, difference: Floats) -> Floats:
    """Labels at risk until a verdict: the formula; where a group already has those, what narrows its own interval clear of tau."""
    others = intervals.rates(sides.events_0, sides.trials_0)
    trials = need_n(others, difference)
    value, low, high = estimate
    reach, room = np.where(value < tau, high - value, value - low), np.maximum(np.abs(tau - value), 1e-3 * tau)
    narrower = np.ceil(sides.trials_1 * np.square(np.divide(reach, room)))
    trials = np.where(sides.trials_1 >= trials, np.maximum(trials, narrower), trials)
    # Labels drawn with unequal probability say less each.
    cost = np.divide(cells.num_labels, sides.trials_1, out=np.ones_like(value), where=sides.trials_1 > 0)
    return np.asarray(np.ceil(trials * np.maximum(cost, 1.0)), np.float64)


def _reasons(sides: _Sides, undecided: NDArray[np.bool_], undefined: NDArray[np.bool_]) -> NDArray[np.object_]:
    reason = np.full(undecided.shape, None, dtype=object)
    reason[undecided] = "the interval reaches across the tolerated value"
    reason[undefined] = "undefined: the others' rate is 0"
    reason[sides.trials_0 == 0] = "undefined: the others have no labelled item at risk"
    reason[sides.trials_1 == 0] = "undefined: no labelled item at risk"
    return reason
