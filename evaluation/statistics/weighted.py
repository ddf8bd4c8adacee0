"""Bound rates and totals where labels were drawn with unequal probability (w = 1 / inclusion_prob).

*FF-beta* bounds a rate: the binomial analogue of Fay & Feuer's gamma bound. *Gamma* bounds a total. Both take sums only, so
that they work on a score cube, and both need `max_weight` of the **frame**, drawn or not: with the sample's own maximum a
stratum that was never drawn costs nothing, and the stated error is exceeded six-fold (docs/statistics.md, Weighted bounds).

Every function broadcasts; all arguments are float64 arrays:
    sum_w_events   sum of w over labelled items that are events
    sum_w2_events  sum of w squared over the same items
    sum_w          sum of w over all labelled items
    max_weight     largest 1 / inclusion_prob of the frame among items that could be events; 0 where the frame has no such item
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betainc, betaincinv, chdtri

from upheld.common.arrays import Floats
from upheld.evaluation.statistics.intervals import clopper_pearson


def rate_p_value(sum_w_events: ArrayLike, sum_w2_events: ArrayLike, sum_w: ArrayLike, max_weight: ArrayLike, rate: ArrayLike) -> Floats:
    """Test "the true rate of events is at least `rate`", one-sided; a small p-value says that it is lower.

    Args:
        sum_w_events, sum_w2_events, sum_w, max_weight: (N,), see the module.
        rate: (N,) or scalar in (0, 1), the rate on trial.

    Returns:
        float64 (N,) in [0, 1]; 1 where nothing was labelled. Equal weights give the binomial tail P(X <= x) exactly.

    Source: our own, after Fay & Feuer (1997), Statistics in Medicine 16; docs/statistics.md, Weighted bounds.
    """
    shape_event, shape_rest = _shapes(sum_w_events, sum_w2_events, sum_w, max_weight)
    return np.where(shape_rest > 0, 1 - betainc(shape_event, np.maximum(shape_rest, 1e-300), rate), 1.0)


def rate_upper(sum_w_events: ArrayLike, sum_w2_events: ArrayLike, sum_w: ArrayLike, max_weight: ArrayLike, delta: ArrayLike) -> Floats:
    """Bound a rate from above: the bound is the rate whose p-value is `delta`.

    Args:
        sum_w_events, sum_w2_events, sum_w, max_weight: (N,), see the module.
        delta: (N,) or scalar in (0, 1), probability that the bound lies below the true rate.

    Returns:
        float64 (N,) in [0, 1]; NaN where nothing was labelled. Equal weights give Clopper-Pearson exactly.
    """
    shape_event, shape_rest = _shapes(sum_w_events, sum_w2_events, sum_w, max_weight)
    upper = np.where(shape_rest > 0, betaincinv(shape_event, np.maximum(shape_rest, 1e-300), 1 - _floats(delta)), 1.0)
    return np.where(_floats(sum_w) > 0, upper, np.nan)


def rate_lower(
    sum_w_events: ArrayLike, sum_w2_events: ArrayLike, sum_w: ArrayLike, sum_w2: ArrayLike, max_weight: ArrayLike, delta: ArrayLike
) -> Floats:
    """Bound a rate from below: one minus the upper bound of its complement.

    Args:
        sum_w_events, sum_w2_events, sum_w, max_weight: (N,), see the module; max_weight is that of items that could be non-events.
        sum_w2: (N,), sum of w squared over all labelled items.
        delta: (N,) or scalar in (0, 1), probability that the bound lies above the true rate.

    Returns:
        float64 (N,) in [0, 1]; NaN where nothing was labelled.
    """
    rest = np.maximum(_floats(sum_w) - _floats(sum_w_events), 0.0)
    rest_2 = np.maximum(_floats(sum_w2) - _floats(sum_w2_events), 0.0)
    return _floats(1 - rate_upper(rest, rest_2, sum_w, max_weight, delta))


def rate_limits(
    sum_w_events: ArrayLike,
    sum_w2_events: ArrayLike,
    sum_w: ArrayLike,
    sum_w2: ArrayLike,
    max_weight: ArrayLike,
    max_weight_rest: ArrayLike,
    alpha: float,
) -> tuple[Floats, Floats]:
    """Compute an interval of a rate that holds however few labels there are and whichever of the two sides was drawn more often.

    FF-beta takes the sum of weights for the size of the frame. Of a handful of labels it is not: one harmless post that was drawn with
    probability .02 and not flagged would count as five trials of a false-positive rate whose events are drawn with .1.

    Args:
        sum_w_events, sum_w2_events, sum_w, max_weight: (N,), see the module.
        sum_w2: (N,), sum of w squared over all labelled items.
        max_weight_rest: (N,), largest 1 / inclusion_prob of the frame among items that could be non-events.
        alpha: two-sided error, in (0, 1).

    Returns:
        (low, high), float64 (N,) in [0, 1]; NaN where nothing was labelled. Clopper-Pearson where all weights are equal; elsewhere events
        and non-events are bounded apart, each at half the error: X_L / (X_L + Y_U) and X_U / (X_U + Y_L) with gamma bounds, as recall is.
    """
    events, squares, total, weight = (_floats(value) for value in (sum_w_events, sum_w2_events, sum_w, max_weight))
    rest, rest_squares = np.maximum(total - events, 0.0), np.maximum(_floats(sum_w2) - squares, 0.0)
    ends = [
        (total_lower(events, squares, alpha / 4), total_upper(rest, rest_squares, max_weight_rest, alpha / 4)),
        (total_upper(events, squares, weight, alpha / 4), total_lower(rest, rest_squares, alpha / 4)),
    ]
    low, high = (np.divide(x, x + y, out=np.zeros(np.broadcast(x, y).shape), where=x + y > 0) for x, y in ends)
    same = (weight == max_weight_rest) & np.isclose(_floats(sum_w2), weight * total, rtol=1e-9)
    count, trials = (np.divide(value, weight, out=np.zeros_like(total), where=same & (total > 0)) for value in (events, total))
    exact = clopper_pearson(np.minimum(count, trials), trials, alpha)
    return tuple(np.where(total > 0, np.where(same, plain, bound), np.nan) for plain, bound in zip(exact, (low, high), strict=True))  # type: ignore[return-value]


def effective_counts(sum_w_events: ArrayLike, sum_w2_events: ArrayLike, sum_w: ArrayLike, max_weight: ArrayLike) -> tuple[Floats, Floats]:
    """Convert weighted sums into the counts that an equally weighted sample would need to say as much.

    Args:
        sum_w_events, sum_w2_events, sum_w, max_weight: (N,), see the module.

    Returns:
        (num_events, num_trials), float64 (N,) each: x = X / s and n = S / s with s = (V + M^2) / (X + M), so that x / n = X / S.
        Equal weights give the plain counts; 0 where nothing was labelled.
    """
    scale = _scale(sum_w_events, sum_w2_events, max_weight)
    return _floats(sum_w_events) / scale, _floats(sum_w) / scale


def total_upper(sum_w_events: ArrayLike, sum_w2_events: ArrayLike, max_weight: ArrayLike, delta: ArrayLike) -> Floats:
    """Bound the number of events in the frame from above.

    Args:
        sum_w_events, sum_w2_events, max_weight: (N,), see the module.
        delta: (N,) or scalar in (0, 1), probability that the bound lies below the true number.

    Returns:
        float64 (N,) >= 0; 0 where max_weight is 0: the frame holds no such item.

    Source: Fay & Feuer (1997), with the frame's largest weight: v / (2 m) * chi2_{1 - delta}(2 m^2 / v), m = X + M, v = V + M^2.
    """
    mean = _floats(sum_w_events) + _floats(max_weight)
    variance = _floats(sum_w2_events) + _floats(max_weight) ** 2
    known = mean > 0
    mean, variance = np.where(known, mean, 1.0), np.where(known, variance, 1.0)
    return np.where(known, variance / (2 * mean) * chdtri(2 * mean**2 / variance, delta), 0.0)


def total_lower(sum_w_events: ArrayLike, sum_w2_events: ArrayLike, delta: ArrayLike) -> Floats:
    """Bound the number of events in the frame from below.

    Args:
        sum_w_events, sum_w2_events: (N,), see the module.
        delta: (N,) or scalar in (0, 1), probability that the bound lies above the true number.

    Returns:
        float64 (N,) >= 0; 0 where no event was labelled.

    Source: Fay & Feuer (1997): V / (2 X) * chi2_{delta}(2 X^2 / V).
    """
    mean, variance = _floats(sum_w_events), _floats(sum_w2_events)
    known = mean > 0
    safe_mean, safe_variance = np.where(known, mean, 1.0), np.where(known, variance, 1.0)
    return np.where(known, safe_variance / (2 * safe_mean) * chdtri(2 * safe_mean**2 / safe_variance, 1 - _floats(delta)), 0.0)


def _scale(sum_w_events: ArrayLike, sum_w2_events: ArrayLike, max_weight: ArrayLike) -> Floats:
    """Compute the weight s that one effective item carries; 1 where there is neither an event nor a frame."""
    mean = _floats(sum_w_events) + _floats(max_weight)
    variance = _floats(sum_w2_events) + _floats(max_weight) ** 2
    return np.divide(variance, mean, out=np.ones(np.broadcast(mean, variance).shape), where=mean > 0)


def _shapes(sum_w_events: ArrayLike, sum_w2_events: ArrayLike, sum_w: ArrayLike, max_weight: ArrayLike) -> tuple[Floats, Floats]:
    """Compute the two shape parameters of FF-beta's beta distribution; a second one of 0 or less means that there is no evidence at all."""
    scale = _scale(sum_w_events, sum_w2_events, max_weight)
    shape_event = (_floats(sum_w_events) + _floats(max_weight)) / scale
    return shape_event, _floats(sum_w) / scale - shape_event + 1


def _floats(values: ArrayLike) -> Floats:
    return np.asarray(values, np.float64)
