"""Measure whether probabilities mean what they say: Brier score, debiased squared calibration error and reliability curves.

As in module `ranking`, cells come as `pos` and `neg`, float64 (N, bins, 4), moments (rows, sum w, sum w^2, sum w * prob).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from upheld.common.arrays import Floats
from upheld.evaluation.cube.cube import MOMENTS, Moment
from upheld.evaluation.statistics.intervals import wilson

NUM_GROUPS = 15
NUM_BOOTSTRAPS = 400
GROUP_ROWS = 20  # labelled rows that a group holds at least, where there are that many; of two or three, one verdict would be the error
MIN_ROWS = 30  # fewer say nothing of calibration: a dozen rows once put an error of .66 into a report, from a single group of two


class Reliability(NamedTuple):
    """Points of a reliability curve, float64 (N, groups) each: mean probability, observed rate with its interval (NaN where
    a group is empty), labelled rows, effective rows, share of the cell's weight.
    """

    prob: Floats
    rate: Floats
    ci_low: Floats
    ci_high: Floats
    num: Floats
    num_effective: Floats
    share: Floats


def brier(pos: Floats, neg: Floats, alpha: float) -> tuple[Floats, Floats, Floats]:
    """Compute the mean squared distance of probability and label.

    Args:
        pos: (N, bins, 4), see the module.
        neg: (N, bins, 4).
        alpha: two-sided error of the interval, in (0, 1).

    Returns:
        (value, ci_low, ci_high), float64 (N,); NaN where nothing is labelled. Normal interval of a weighted mean, cut to [0, 1].
    """
    weight = pos[..., Moment.W] + neg[..., Moment.W]
    prob = np.divide(pos[..., Moment.WP] + neg[..., Moment.WP], weight, out=np.zeros_like(weight), where=weight > 0)  # mean of each bin
    loss_pos, loss_neg = (1 - prob) ** 2, prob**2
    total = pos[..., Moment.W].sum(-1) + neg[..., Moment.W].sum(-1)
    total = np.where(total > 0, total, np.nan)
    mean = ((pos[..., Moment.W] * loss_pos).sum(-1) + (neg[..., Moment.W] * loss_neg).sum(-1)) / total
    spread = pos[..., Moment.W2] * (loss_pos - mean[:, None]) ** 2 + neg[..., Moment.W2] * (loss_neg - mean[:, None]) ** 2
    half = ndtri(1 - alpha / 2) * np.sqrt(spread.sum(-1)) / total
    return mean, np.maximum(mean - half, 0), np.minimum(mean + half, 1)


def reliability(pos: Floats, neg: Floats, alpha: float, num_groups: int = NUM_GROUPS) -> Reliability:
    """Compute observed rates in groups of rows in order of probability.

    Groups hold about equally many labelled rows, and GROUP_ROWS at least: the rate of two or three rows is an accident.

    Args:
        pos: (N, bins, 4), see the module.
        neg: (N, bins, 4).
        alpha: two-sided error of the band, in (0, 1).
        num_groups: at least 1, of the cells with many rows; the groups that a cell does not fill are empty.
    """
    both = pos + neg
    count = both[..., Moment.N]
    rank = (np.cumsum(count, axis=-1) - count / 2) / np.maximum(count.sum(-1, keepdims=True), 1)
    filled = np.clip(count.sum(-1, keepdims=True) // GROUP_ROWS, 1, num_groups)
    group = np.minimum(rank * filled, filled - 1).astype(int) + num_groups * np.arange(len(pos))[:, None]
    sums = {name: _grouped(both[..., i], group, num_groups) for name, i in zip(MOMENTS, Moment, strict=True)}
    events = _grouped(pos[..., Moment.W], group, num_groups)
    known = sums["w"] > 0
    weight = np.where(known, sums["w"], np.nan)
    rate, prob = events / weight, sums["wp"] / weight
    trials = np.where(known, sums["w"] ** 2 / np.where(known, sums["w2"], 1.0), 0.0)
    low, high = wilson(np.where(known, rate, 0.0) * trials, trials, alpha)
    share = np.where(known, sums["w"], 0.0) / np.where(sums["w"].sum(-1, keepdims=True) > 0, sums["w"].sum(-1, keepdims=True), 1.0)
    return Reliability(prob, rate, low, high, sums["n"], trials, share)


def ce2_debiased(curve: Reliability, alpha: float, seed: int) -> tuple[Floats, Floats, Floats]:
    """Compute the squared calibration error without the part that label noise alone produces.

    CE^2 = sum_b share_b * [(rate_b - prob_b)^2 - rate_b (1 - rate_b) / (n_b - 1)]; it may be slightly below 0 where there is no error.

    Args:
        curve: from `reliability`.
        alpha: two-sided error of the interval, in (0, 1).
        seed: of the bootstrap.

    Returns:
        (value, ci_low, ci_high), float64 (N,); NaN below MIN_ROWS and where no group has two effective rows. The interval is the basic
        bootstrap's over the groups' rates (the bootstrap's own mean is the plug-in error, so its deviations are used and not its
        values), cut at 0.

    Source: docs/statistics.md, Calibration error; Kumar, Liang & Ma (2019), NeurIPS, for the debiasing.
    """
    usable = curve.num_effective > 1.5
    share = np.where(usable, curve.share, 0.0)
    total = share.sum(-1)
    share = share / np.where(total > 0, total, 1.0)[:, None]
    rate, prob = np.where(usable, curve.rate, 0.0), np.where(usable, curve.prob, 0.0)
    trials = np.where(usable, curve.num_effective, 2.0)

    def statistic(observed: Floats) -> Floats:
        """Compute the debiased error at these rates of the groups."""
        noise = observed * (1 - observed) / (trials - 1)
        return np.asarray((share * ((observed - prob) ** 2 - noise)).sum(-1))

    value = statistic(rate)
    rng = np.random.default_rng(seed)
    whole = np.maximum(np.round(trials), 2).astype(int)
    # Half an event and half a non-event are added (Jeffreys), or three rows that agree would give an interval without width.
    smooth = (rate * trials + 0.5) / (trials + 1)
    draws = np.stack([statistic(rng.binomial(whole, smooth) / whole) for _ in range(NUM_BOOTSTRAPS)])
    deviation = draws - draws.mean(0)
    low = np.maximum(value - np.quantile(deviation, 1 - alpha / 2, axis=0), 0)
    high = np.maximum(value - np.quantile(deviation, alpha / 2, axis=0), 0)
    known = (total > 0) & (curve.num.sum(-1) >= MIN_ROWS)
    return tuple(np.where(known, part, np.nan) for part in (value, low, high))  # type: ignore[return-value]


def _grouped(values: Floats, group: NDArray[np.int64], num_groups: int) -> Floats:
    flat = np.bincount(group.ravel(), values.ravel(), minlength=len(values) * num_groups)
    return np.asarray(flat.reshape(len(values), num_groups), np.float64)
