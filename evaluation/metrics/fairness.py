"""Compare each language (region, group) with the others and say what the evidence supports (docs/statistics.md, Fairness)."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from upheld.common.arrays import Floats
from upheld.evaluation.statistics import intervals, weighted
from upheld.evaluation.statistics.intervals import Bounded

PASS, WARN, FAIL, INSUFFICIENT = "PASS", "WARN", "FAIL", "INSUFFICIENT"
# One-sided error and power behind need_n: 1.645 and 0.842 in the formula of docs/statistics.md, Sample size.
NEED_ALPHA, NEED_POWER = 0.05, 0.80


class Cells(NamedTuple):
    """Weighted counts of one rate, float64 (..., groups): leading axes are families (category, metric), the last one the groups compared.

    num_labels: labelled items at risk (for FPR: benign ones).
    sum_w_events, sum_w2_events: sums of w and w squared over events (for FPR: benign items that were flagged).
    sum_w, sum_w2: the same over all labelled items at risk.
    max_weight: largest frame weight of an item that could be an event (cube.cut_max_weight of the interval).
    max_weight_rest: the same of an item at risk that could be none.
    """

    num_labels: Floats
    sum_w_events: Floats
    sum_w2_events: Floats
    sum_w: Floats
    sum_w2: Floats
    max_weight: Floats
    max_weight_rest: Floats


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


class _Estimate(NamedTuple):
    """A gap or ratio, its value where groups do not differ, its interval, and one of exact limits (weighted.rate_limits) beside it."""

    value: Floats
    equal: float
    low: Floats
    high: Floats
    exact_low: Floats
    exact_high: Floats


class _Sides(NamedTuple):
    """Effective counts of each group (1) and of all others together (0), and the sums behind them."""

    events_1: Floats
    trials_1: Floats
    events_0: Floats
    trials_0: Floats
    group: Cells
    others: Cells


def rate(cells: Cells, alpha: float) -> tuple[Floats, Floats, Floats, Floats]:
    """Compute each group's own rate with its interval.

    Args:
        cells: see Cells.
        alpha: two-sided error of the interval, half on each side.

    Returns:
        (value, ci_low, ci_high, num_effective), float64 (..., groups); NaN where nothing is at risk. The interval is that of
        weighted.rate_limits: Clopper-Pearson where all weights are equal.
    """
    return intervals.rates(cells.sum_w_events, cells.sum_w), *weighted.rate_limits(*cells[1:], alpha), _effective(cells)[1]


def gap(cells: Cells, tau: float, alpha: float = 0.10, level: float = 0.05) -> Verdicts:
    """Judge the rate of each group minus the rate of all others together.

    Args:
        cells: see Cells.
        tau: largest gap that is tolerated, in (0, 1).
        alpha: two-sided error of the Newcombe-Wilson interval.
        level: family-wise level of WARN, Holm over the groups of a family.

    Returns:
        WARN where the gap exceeds tau and Holm's p-value of "no gap" is <= level; FAIL where moreover the lower bound exceeds tau; PASS
        where the upper bound is below tau; else INSUFFICIENT, with the labels at risk that a group would need. A bound counts only where
        the interval of exact limits has it too: of a handful of labels Newcombe-Wilson alone fails one in four languages whose gap is
        tau and passes one in six (largest over 1 to 100 labels, by enumeration; with the exact limits beside it, 5 % each).
    """
    sides = _sides(cells)
    value = intervals.rates(sides.events_1, sides.trials_1) - intervals.rates(sides.events_0, sides.trials_0)
    estimate = _Estimate(value, 0.0, *intervals.difference(*_wilson(sides, alpha)), *intervals.difference(*_exact(sides, alpha)))
    return _judge(cells, sides, estimate, tau, np.full(value.shape, tau), level)


def ratio(cells: Cells, tau: float, alpha: float = 0.10, level: float = 0.05) -> Verdicts:
    """Judge the rate of each group over the rate of all others together.

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
    others = intervals.rates(sides.events_0, sides.trials_0)
    value = np.divide(intervals.rates(sides.events_1, sides.trials_1), others, out=np.full(others.shape, np.nan), where=others > 0)
    estimate = _Estimate(value, 1.0, *intervals.ratio(*_wilson(sides, alpha)), *intervals.ratio(*_exact(sides, alpha)))
    return _judge(cells, sides, estimate, tau, (tau - 1) * others, level)


def need_n(rate_0: Floats, difference: Floats) -> Floats:
    """Compute how many trials tell rate_0 from rate_0 + difference, at a one-sided error of .05 and a power of .80.

    Args:
        rate_0: (N,) in [0, 1], of the others.
        difference: (N,) > 0.

    Returns:
        float64 (N,), whole numbers; NaN where the rate is unknown or the difference is 0.

    Source: docs/statistics.md, Sample size: ((1.645 sqrt(p1 q1) + 0.842 sqrt(p0 q0)) / tau)^2 with p1 = p0 + tau.
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
    """Set every group against the sum of the others of its family; their largest frame weight is taken to be the family's."""
    rest = Cells(*(np.maximum(values.sum(axis=-1, keepdims=True) - values, 0.0) for values in cells))
    largest = {
        name: np.broadcast_to(getattr(cells, name).max(axis=-1, keepdims=True), cells.sum_w.shape)
        for name in ("max_weight", "max_weight_rest")
    }
    rest = rest._replace(**largest)
    return _Sides(*_effective(cells), *_effective(rest), cells, rest)


def _wilson(sides: _Sides, alpha: float) -> tuple[Bounded, Bounded]:
    """Bound both rates by Wilson intervals on effective counts."""
    counts = (sides.events_1, sides.trials_1), (sides.events_0, sides.trials_0)
    one, other = (Bounded(intervals.rates(*side), *intervals.wilson(*side, alpha)) for side in counts)
    return one, other


def _exact(sides: _Sides, alpha: float) -> tuple[Bounded, Bounded]:
    """Bound both rates by intervals that hold for any number of labels."""
    one, other = (Bounded(*rate(cells, alpha)[:3]) for cells in (sides.group, sides.others))
    return one, other


def _judge(cells: Cells, sides: _Sides, estimate: _Estimate, tau: float, difference: Floats, level: float) -> Verdicts:
    """Derive verdicts from a value with its intervals; `difference` is what tau tolerates on the scale of rates."""
    value = estimate.value
    # The test of "no gap" is one-sided. A group at or below the others gets 1 without an integral: Holm never rejects there.
    higher = intervals.rates(sides.events_1, sides.trials_1) > intervals.rates(sides.events_0, sides.trials_0)
    p_value = np.where((sides.trials_1 > 0) & (sides.trials_0 > 0), 1.0, np.nan)
    p_value[higher] = intervals.prob_gap_by_chance(*(side[higher] for side in sides[:4]))
    p_adjusted = np.apply_along_axis(intervals.holm, -1, p_value)
    warn = (p_adjusted <= level) & (value > tau) & (estimate.exact_low > estimate.equal)
    fail = warn & (np.minimum(estimate.low, estimate.exact_low) > tau)
    passed = ~warn & (np.maximum(estimate.high, estimate.exact_high) < tau)
    verdict = np.select([fail, warn, passed], [FAIL, WARN, PASS], INSUFFICIENT)
    undecided = verdict == INSUFFICIENT
    needed = np.where(undecided, _needed(cells, sides, estimate, tau, difference), np.nan)
    reason = np.full(undecided.shape, None, dtype=object)
    reason[undecided] = "the interval reaches across the tolerated value"
    clear = (estimate.low > tau) | (estimate.high < tau)  # the shown interval lies on one side of tau
    reason[undecided & clear] = "too few labels: an exact test does not rule out chance"
    reason[np.isnan(value)] = "undefined: the others' rate is 0"
    reason[sides.trials_0 == 0] = "undefined: the others have no labelled item at risk"
    reason[sides.trials_1 == 0] = "undefined: no labelled item at risk"
    return Verdicts(value, estimate.low, estimate.high, cells.num_labels, sides.trials_1, p_adjusted, verdict, needed, reason)


def _needed(cells: Cells, sides: _Sides, estimate: _Estimate, tau: float, difference: Floats) -> Floats:
    """Estimate the labels at risk until a verdict: by the formula, or, where a group already has those, what moves its interval off tau."""
    others = intervals.rates(sides.events_0, sides.trials_0)
    trials = need_n(others, difference)
    value = estimate.value
    reach = np.where(value < tau, np.fmax(estimate.high, estimate.exact_high) - value, value - np.fmin(estimate.low, estimate.exact_low))
    room = np.maximum(np.abs(tau - value), 1e-3 * tau)
    narrower = np.maximum(np.ceil(sides.trials_1 * np.square(np.divide(reach, room))), sides.trials_1 + 1)
    trials = np.where(sides.trials_1 >= trials, np.maximum(trials, narrower), trials)
    # Labels drawn with unequal probability say less each.
    cost = np.divide(cells.num_labels, sides.trials_1, out=np.ones_like(value), where=sides.trials_1 > 0)
    return np.asarray(np.ceil(trials * np.maximum(cost, 1.0)), np.float64)
