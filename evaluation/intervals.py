"""Bounds of rates, differences and ratios from counts: every weight equal. Unequal weights: evaluation/weighted.py.

All functions take float64 arrays that broadcast, so that one call serves every cell of a report. Counts may be effective
(fractional) counts. No trial is no evidence: the answer is NaN, and never a rate of 0 or 1.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc, betaincinv, betaln, ndtri, xlog1py, xlogy

Floats = NDArray[np.float64]


def clopper_pearson_lower(num_events: ArrayLike, num_trials: ArrayLike, delta: float) -> Floats:
    """Exact one-sided lower bound of a binomial rate.

    Args:
        num_events: (N,), 0 <= num_events <= num_trials.
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
    """Exact one-sided upper bound of a binomial rate: one minus the lower bound of its complement.

    Args:
        num_events: (N,), 0 <= num_events <= num_trials.
        num_trials: (N,).
        delta: probability, in (0, 1), that the bound lies below the true rate.

    Returns:
        float64 (N,) in [0, 1]; NaN where num_trials is 0.

    Raises:
        ValueError: as `clopper_pearson_lower`.
    """
    events, trials = _counts(num_events, num_trials, delta)
    return 1 - clopper_pearson_lower(trials - events, trials, delta)


def wilson(num_events: ArrayLike, num_trials: ArrayLike, alpha: float) -> tuple[Floats, Floats]:
    """Two-sided score interval of a rate.

    Args:
        num_events: (N,), 0 <= num_events <= num_trials; may be effective counts.
        num_trials: (N,).
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


def newcombe_wilson(
    num_events_1: ArrayLike, num_trials_1: ArrayLike, num_events_0: ArrayLike, num_trials_0: ArrayLike, alpha: float
) -> tuple[Floats, Floats]:
    """Two-sided interval of the difference of two rates, rate_1 - rate_0.

    Args:
        num_events_1, num_trials_1: (N,), the group; may be effective counts.
        num_events_0, num_trials_0: (N,), the reference.
        alpha: two-sided error, in (0, 1).

    Returns:
        (low, high), float64 (N,) each, in [-1, 1]; NaN where either side has no trial.

    Source: Newcombe (1998), Statistics in Medicine 17, method 10.
    """
    low_1, high_1 = wilson(num_events_1, num_trials_1, alpha)
    low_0, high_0 = wilson(num_events_0, num_trials_0, alpha)
    rate_1, rate_0 = rates(num_events_1, num_trials_1), rates(num_events_0, num_trials_0)
    gap = rate_1 - rate_0
    return gap - np.hypot(rate_1 - low_1, high_0 - rate_0), gap + np.hypot(high_1 - rate_1, rate_0 - low_0)


def ratio_wilson(
    num_events_1: ArrayLike, num_trials_1: ArrayLike, num_events_0: ArrayLike, num_trials_0: ArrayLike, alpha: float
) -> tuple[Floats, Floats]:
    """Two-sided interval of the ratio of two rates, rate_1 / rate_0, from their Wilson intervals.

    Args:
        num_events_1, num_trials_1: (N,), the group; may be effective counts.
        num_events_0, num_trials_0: (N,), the reference.
        alpha: two-sided error, in (0, 1).

    Returns:
        (low, high), float64 (N,) each; low >= 0; high is inf where the reference rate may be 0; NaN where either side has no trial.

    Source: Donner & Zou (2012), Statistical Methods in Medical Research 21(4), MOVER-R with Wilson limits.
    """
    low_1, high_1 = wilson(num_events_1, num_trials_1, alpha)
    low_0, high_0 = wilson(num_events_0, num_trials_0, alpha)
    rate_1, rate_0 = rates(num_events_1, num_trials_1), rates(num_events_0, num_trials_0)
    product = rate_1 * rate_0
    # Each limit solves a quadratic in the ratio; the lower one in the form that stays finite where its leading coefficient is 0.
    low_end, high_end = low_1 * (2 * rate_1 - low_1), high_1 * (2 * rate_1 - high_1)
    low_scale, high_scale = high_0 * (2 * rate_0 - high_0), low_0 * (2 * rate_0 - low_0)
    low_root = np.sqrt(np.maximum(product**2 - low_end * low_scale, 0.0))
    high_root = np.sqrt(np.maximum(product**2 - high_end * high_scale, 0.0))
    low = np.divide(low_end, product + low_root, out=np.zeros_like(product), where=product + low_root > 0)
    high = np.divide(product + high_root, high_scale, out=np.full_like(product, np.inf), where=high_scale > 0)
    unknown = np.isnan(product)
    return np.where(unknown, np.nan, low), np.where(unknown, np.nan, high)


def prob_gap_by_chance(num_events_1: ArrayLike, num_trials_1: ArrayLike, num_events_0: ArrayLike, num_trials_0: ArrayLike) -> Floats:
    """One-sided p-value of "rate_1 is no higher than rate_0": Fisher's exact test, continued to fractional counts.

    Fisher's p-value equals P(A <= B) for A ~ Beta(events_1, trials_1 - events_1 + 1) and B ~ Beta(events_0 + 1, trials_0 - events_0),
    which needs no whole numbers, so that effective counts can enter.

    Args:
        num_events_1, num_trials_1: (N,), the group; may be effective counts.
        num_events_0, num_trials_0: (N,), the reference.

    Returns:
        float64 (N,) in [0, 1]; NaN where either side has no trial.

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


def rates(num_events: ArrayLike, num_trials: ArrayLike) -> Floats:
    """num_events / num_trials, float64; NaN (undefined) where there is no trial."""
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


def _counts(num_events: ArrayLike, num_trials: ArrayLike, delta: float) -> tuple[Floats, Floats]:
    """Check and broadcast counts; effective counts may exceed their trials by rounding."""
    if not 0 < delta < 1:
        raise ValueError(f"an error probability must lie in (0, 1), got {delta}")
    events, trials = np.broadcast_arrays(np.asarray(num_events, np.float64), np.asarray(num_trials, np.float64))
    if ((events < 0) | (events > trials * (1 + 1e-12))).any():
        raise ValueError("every count of events must lie between 0 and its number of trials")
    return np.minimum(events, trials), trials
