"""Measure how well scores rank violations above the rest: ROC-AUC and average precision from weighted counts per score bin.

See docs/statistics.md, Ranking.

Every function takes the labelled rows of N cells as two arrays, float64 (N, bins, 4) with the moments of the cube
(rows, sum of w, sum of w squared, sum of w * score): `pos` for violations and `neg` for the rest. Cells without both
classes are undefined: NaN, never 0.5 and never 1.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtri

from upheld.common.arrays import Floats
from upheld.evaluation.cube.cube import Moment
from upheld.evaluation.statistics.intervals import wilson


def roc_auc(pos: Floats, neg: Floats, alpha: float) -> tuple[Floats, Floats, Floats]:
    """Estimate the probability that a violation scores higher than another row, ties counted half.

    Args:
        pos: (N, bins, 4), see the module.
        neg: (N, bins, 4).
        alpha: two-sided error of the interval, in (0, 1).

    Returns:
        (value, ci_low, ci_high), float64 (N,). The interval is DeLong's on the logit scale, widened to Newcombe's score
        interval where that is wider: DeLong's variance is 0 at an AUC of 1, which a handful of rows reaches by luck.

    Source: DeLong, DeLong & Clarke-Pearson (1988), Biometrics 44(3), with weights as in Horvitz & Thompson; Newcombe (2006),
        Statistics in Medicine 25(4), method 5.
    """
    auc, above, below = _placements(pos, neg)
    spread = _share_of_variance(pos, above - auc[:, None]) + _share_of_variance(neg, below - auc[:, None])
    low, high = _logit_interval(auc, np.sqrt(spread), alpha)
    score_low, score_high = _newcombe(auc, effective(pos), effective(neg), alpha)
    return auc, np.fmin(low, score_low), np.fmax(high, score_high)


def average_precision(pos: Floats, neg: Floats, alpha: float) -> tuple[Floats, Floats, Floats]:
    """Compute the area under the precision-recall steps; the rows of a bin enter together, since nothing orders them.

    Args:
        pos: (N, bins, 4), see the module.
        neg: (N, bins, 4).
        alpha: two-sided error of the interval, in (0, 1).

    Returns:
        (value, ci_low, ci_high), float64 (N,). The interval is the linearised one on the logit scale, widened to the
        score interval of a share of the violations where that is wider.

    Source: Boyd, Eng & Page (2013), ECML PKDD, for logit and binomial intervals of this area; the linearisation is ours:
        the derivative of sum_b w1_b * T_b / (T_b + F_b) / W1 by the weight of one row, T and F the sums at or above bin b.
    """
    total = _total(pos[..., Moment.W])
    true, false = _at_or_above(pos[..., Moment.W]), _at_or_above(neg[..., Moment.W])
    flagged = np.where(true + false > 0, true + false, 1.0)
    precision = true / flagged
    area = (pos[..., Moment.W] * precision).sum(-1) / total
    lifted = np.cumsum(pos[..., Moment.W] * false / flagged**2, axis=-1)
    dropped = np.cumsum(pos[..., Moment.W] * true / flagged**2, axis=-1)
    gain = (precision - area[:, None] + lifted) / total[:, None]
    variance = (pos[..., Moment.W2] * gain**2).sum(-1) + (neg[..., Moment.W2] * (dropped / total[:, None]) ** 2).sum(-1)
    area = np.where(neg[..., Moment.W].sum(-1) > 0, area, np.nan)
    low, high = _logit_interval(area, np.sqrt(variance), alpha)
    known = np.isfinite(area)
    trials = np.where(known, effective(pos), 0.0)
    share_low, share_high = wilson(np.where(known, area, 0.0) * trials, trials, alpha)
    return area, np.fmin(low, share_low), np.fmax(high, share_high)


def effective(side: Floats) -> Floats:
    """Count the equally weighted rows that would say as much about a mean: (sum w)^2 / sum w^2, float64 (N,); 0 where there is none.

    Source: Kish (1965), Survey Sampling, section 11.7. For the width of a ranking's interval; never for a certificate.
    """
    weight, squares = side[..., Moment.W].sum(-1), side[..., Moment.W2].sum(-1)
    return np.asarray(np.divide(weight**2, squares, out=np.zeros_like(weight), where=squares > 0), np.float64)


def _placements(pos: Floats, neg: Floats) -> tuple[Floats, Floats, Floats]:
    """Compute the AUC, and per bin the share of the rest that a violation there outranks and of violations that outrank a row there."""
    total_pos, total_neg = _total(pos[..., Moment.W]), _total(neg[..., Moment.W])
    outranked = (np.cumsum(neg[..., Moment.W], axis=-1) - neg[..., Moment.W] / 2) / total_neg[:, None]
    outranking = (_at_or_above(pos[..., Moment.W]) - pos[..., Moment.W] / 2) / total_pos[:, None]
    return (pos[..., Moment.W] * outranked).sum(-1) / total_pos, outranked, outranking


def _share_of_variance(side: Floats, deviation: Floats) -> Floats:
    """Compute sum w^2 deviation^2 / (sum w)^2, times n / (n - 1) because the mean is estimated."""
    count = side[..., Moment.N].sum(-1)
    correction = np.where(count > 1, count / np.maximum(count - 1, 1), 1.0)
    return np.asarray(correction * (side[..., Moment.W2] * deviation**2).sum(-1) / _total(side[..., Moment.W]) ** 2)


def _logit_interval(value: Floats, error: Floats, alpha: float) -> tuple[Floats, Floats]:
    """Compute value +- z * error on the logit scale, so that the interval stays within (0, 1)."""
    inside = np.clip(value, 1e-9, 1 - 1e-9)
    half = ndtri(1 - alpha / 2) * error / (inside * (1 - inside))
    return expit(logit(inside) - half), expit(logit(inside) + half)


def _newcombe(auc: Floats, num_pos: Floats, num_neg: Floats, alpha: float) -> tuple[Floats, Floats]:
    """Find the two AUCs at which |auc - theta| = z * sqrt(V(theta)) by bisection; NaN where auc is."""
    z2 = float(ndtri(1 - alpha / 2)) ** 2
    pairs, surplus = np.maximum(num_pos * num_neg, 1e-300), (num_pos + num_neg) / 2 - 1

    def beyond(theta: Floats) -> NDArray[np.bool_]:
        """Say whether an area theta is rejected: whether it lies too far from the observed one."""
        spread = theta * (1 - theta) / pairs * (1 + surplus * ((1 - theta) / (2 - theta) + theta / (1 + theta)))
        return np.asarray((auc - theta) ** 2 > z2 * np.maximum(spread, 0))

    ends = []
    for far in (0.0, 1.0):
        near, outer = auc.copy(), np.full_like(auc, far)
        for _ in range(60):
            middle = (near + outer) / 2
            out = beyond(middle)
            near, outer = np.where(out, near, middle), np.where(out, middle, outer)
        ends.append(np.where(np.isfinite(auc), outer, np.nan))
    return ends[0], ends[1]


def _at_or_above(weights: Floats) -> Floats:
    return np.cumsum(weights[..., ::-1], axis=-1)[..., ::-1]


def _total(weights: Floats) -> Floats:
    """Sum over bins; NaN where there is no row, so that whatever is divided by the sum is undefined too."""
    total = weights.sum(-1)
    return np.where(total > 0, total, np.nan)
