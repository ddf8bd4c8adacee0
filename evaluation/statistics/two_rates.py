"""Compare two rates from counts: intervals of their difference and ratio, and a p-value (docs/statistics.md, Rates).

As in module `intervals` all arrays broadcast, counts may be effective counts, and a side without a trial gives NaN.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betainc, betaincinv, betaln, xlog1py, xlogy

from upheld.common.arrays import Floats


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
