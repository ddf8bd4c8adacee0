"""Bound a rate, and compare two, from counts of equal weight (docs/statistics.md, Rates). Module `weighted` takes unequal weights.

All functions take float64 arrays that broadcast, so that one call serves every cell of a report. Counts may be effective
(fractional) counts. No trial is no evidence: the answer is NaN, and never a rate of 0 or 1.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betainc, betaincinv, betaln, ndtri, xlog1py, xlogy

from upheld.common.arrays import Floats


def clopper_pearson_lower(num_events: ArrayLike, num_trials: ArrayLike, delta: float) -> Floats:
    """Compute the exact one-sided lower bound of a binomial rate.

    Args:
        num_events: (N,), 0 <= num_events <= num_trials; may be effective counts.
        num_trials: (N,).
        delta: probability, in (0, 1), that the bound lies above the true rate.

    Returns:
        float64 (N,) in [0, 1]; NaN where num_trials is 0.

    Raises:
        ValueError: a count is negative or exceeds its trials, or delta is outside (0, 1).

    Source: Clopper & Pearson (1934), Biometrika 26(4); beta form as in Brown, Cai & DasGupta (2001), Statistical Science 16(2), 4.2.1.
    """
    events, trials = _counts(num_events, num_trials, delta)
    lower = np.where(events > 0, betaincinv(np.where(events > 0, events, 1.0), trials - events + 1, delta), 0.0)
    return np.where(trials > 0, lower, np.nan)


def clopper_pearson_upper(num_events: ArrayLike, num_trials: ArrayLike, delta: float) -> Floats:
    """Compute the exact one-sided upper bound of a binomial rate: one minus the lower bound of its complement.

    Takes, returns and raises what `clopper_pearson_lower` does; delta is the probability that the bound lies below the true rate.
    """
    events, trials = _counts(num_events, num_trials, delta)
    return 1 - clopper_pearson_lower(trials - events, trials, delta)


def clopper_pearson(num_events: ArrayLike, num_trials: ArrayLike, alpha: float) -> tuple[Floats, Floats]:
    """Compute the exact two-sided interval of a rate, half of the error on each side.

    Args:
        num_events, num_trials: as in `clopper_pearson_lower`.
        alpha: two-sided error, in (0, 1).

    Returns:
        (low, high), float64 (N,) each, in [0, 1]; NaN where num_trials is 0.

    Raises:
        ValueError: as `clopper_pearson_lower`.
    """
    return clopper_pearson_lower(num_events, num_trials, alpha / 2), clopper_pearson_upper(num_events, num_trials, alpha / 2)


def wilson(num_events: ArrayLike, num_trials: ArrayLike, alpha: float) -> tuple[Floats, Floats]:
    """Compute the two-sided score interval of a rate; it is shorter than the exact one and holds its error only on average.

    Args:
        num_events, num_trials: as in `clopper_pearson_lower`.
        alpha: two-sided error, in (0, 1); .10 gives a 90 % interval.

    Returns:
        (low, high), float64 (N,) each, in [0, 1]; NaN where num_trials is 0.

    Raises:
        ValueError: as `clopper_pearson_lower`.

    Source: Wilson (1927), JASA 22(158).
    """
    events, trials = _counts(num_events, num_trials, alpha)
    z = float(ndtri(1 - alpha / 2))
    known = trials > 0
    n = np.where(known, trials, 1.0)
    rate = events / n
    middle = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    low, high = np.maximum(middle - half, 0.0), np.minimum(middle + half, 1.0)
    # At the ends the formula gives 0 and 1 up to rounding; say so exactly.
    low, high = np.where(events == 0, 0.0, low), np.where(events == trials, 1.0, high)
    return np.where(known, low, np.nan), np.where(known, high, np.nan)


def rates(num_events: ArrayLike, num_trials: ArrayLike) -> Floats:
    """Divide num_events by num_trials, float64; NaN where there is no trial, since a rate of nothing is undefined."""
    events, trials = np.broadcast_arrays(np.asarray(num_events, np.float64), np.asarray(num_trials, np.float64))
    known = trials > 0
    result: Floats = np.where(known, events / np.where(known, trials, 1.0), np.nan)
    return result


def holm(p_values: ArrayLike) -> Floats:
    """Adjust the p-values of one family so that the chance of any false rejection stays at the level.

    Args:
        p_values: (N,) in [0, 1]; NaN means "no test was possible" and stays NaN, outside the family.

    Returns:
        float64 (N,): adjusted p-values, to be compared with the level itself.

    Source: Holm (1979), Scandinavian Journal of Statistics 6(2).
    """
    values = np.asarray(p_values, np.float64)
    adjusted = np.full(values.shape, np.nan)
    order = np.argsort(values)[: int(np.sum(~np.isnan(values)))]
    steps = values[order] * (len(order) - np.arange(len(order)))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


class Bounded(NamedTuple):
    """A rate with its two-sided interval, float64 (N,) each; NaN where there is no trial."""

    rate: Floats
    low: Floats
    high: Floats


def difference(one: Bounded, other: Bounded) -> tuple[Floats, Floats]:
    """Combine the intervals of two independent rates into the two-sided interval of their difference, one - other.

    Args:
        one: the group.
        other: the reference, its interval of the same error.

    Returns:
        (low, high), float64 (N,) each, in [-1, 1]; NaN where either side has no trial.

    Source: Newcombe (1998), Statistics in Medicine 17, method 10, where the intervals are Wilson's; Zou & Donner (2008), Statistics in
    Medicine 27(10), for any others (MOVER).
    """
    gap = one.rate - other.rate
    low = gap - np.hypot(one.rate - one.low, other.high - other.rate)
    return low, gap + np.hypot(one.high - one.rate, other.rate - other.low)


def ratio(one: Bounded, other: Bounded) -> tuple[Floats, Floats]:
    """Combine the intervals of two independent rates into the two-sided interval of their ratio, one / other.

    Args:
        one: the group.
        other: the reference, its interval of the same error.

    Returns:
        (low, high), float64 (N,) each; low >= 0; high is inf where the reference rate may be 0; NaN where either side has no trial.

    Source: Donner & Zou (2012), Statistical Methods in Medical Research 21(4), MOVER-R.
    """
    product = one.rate * other.rate
    # Each limit solves a quadratic in the ratio; the lower one in the form that stays finite where its leading coefficient is 0.
    low_end, high_end = one.low * (2 * one.rate - one.low), one.high * (2 * one.rate - one.high)
    low_scale, high_scale = other.high * (2 * other.rate - other.high), other.low * (2 * other.rate - other.low)
    low_root = np.sqrt(np.maximum(product**2 - low_end * low_scale, 0.0))
    high_root = np.sqrt(np.maximum(product**2 - high_end * high_scale, 0.0))
    low = np.divide(low_end, product + low_root, out=np.zeros_like(product), where=product + low_root > 0)
    high = np.divide(product + high_root, high_scale, out=np.full_like(product, np.inf), where=high_scale > 0)
    unknown = np.isnan(product)
    return np.where(unknown, np.nan, low), np.where(unknown, np.nan, high)


def prob_gap_by_chance(num_events_1: ArrayLike, num_trials_1: ArrayLike, num_events_0: ArrayLike, num_trials_0: ArrayLike) -> Floats:
    """Test "rate_1 is no higher than rate_0", one-sided, by Fisher's exact test, continued to fractional counts.

    Fisher's p-value equals P(A <= B) for A ~ Beta(events_1, trials_1 - events_1 + 1) and B ~ Beta(events_0 + 1, trials_0 - events_0),
    which needs no whole numbers, so that effective counts can enter.

    Args:
        num_events_1, num_trials_1: (N,), the group; may be effective counts.
        num_events_0, num_trials_0: (N,), the reference.

    Returns:
        the p-value, float64 (N,) in [0, 1]; NaN where either side has no trial.

    Source: Altham (1969), JRSS B 31(2), for the identity; integrated here by Gauss-Legendre over all but 2e-10 of B.
    """
    events_1, trials_1, events_0, trials_0 = np.broadcast_arrays(
        *(np.asarray(value, np.float64) for value in (num_events_1, num_trials_1, num_events_0, num_trials_0))
    )
    certain = (events_1 <= 0) | (events_0 >= trials_0)  # A is 0, or B is 1
    shape_1 = np.where(certain, 1.0, events_1), np.where(certain, 1.0, trials_1 - events_1 + 1)
    shape_0 = np.where(certain, 1.0, events_0 + 1), np.where(certain, 1.0, trials_0 - events_0)
    low, high = betaincinv(*shape_0, 1e-10), betaincinv(*shape_0, 1 - 1e-10)
    total: Floats = np.zeros(certain.shape)
    for node, node_weight in zip(*np.polynomial.legendre.leggauss(64), strict=True):
        at = low + (high - low) * (node + 1) / 2
        log_density = xlogy(shape_0[0] - 1, at) + xlog1py(shape_0[1] - 1, -at) - betaln(*shape_0)
        total += node_weight / 2 * (high - low) * np.exp(log_density) * betainc(*shape_1, at)
    result = np.where(certain, 1.0, np.clip(total, 0, 1))
    return np.asarray(np.where((trials_1 > 0) & (trials_0 > 0), result, np.nan), np.float64)


def _counts(num_events: ArrayLike, num_trials: ArrayLike, delta: float) -> tuple[Floats, Floats]:
    """Check and broadcast counts. Effective counts may exceed their trials by rounding; they are cut to them."""
    if not 0 < delta < 1:
        raise ValueError(f"an error probability must lie in (0, 1), got {delta}")
    events, trials = np.broadcast_arrays(np.asarray(num_events, np.float64), np.asarray(num_trials, np.float64))
    if ((events < 0) | (events > trials * (1 + 1e-12))).any():
        raise ValueError("every count of events must lie between 0 and its number of trials")
    return np.minimum(events, trials), trials
