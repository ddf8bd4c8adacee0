"""Compare challenger and champion on the same labelled rows: AUC by DeLong, rates by joined intervals.

See docs/statistics.md, Paired comparison.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri

from upheld.common.arrays import Floats
from upheld.evaluation.cube.bins import bin_of
from upheld.evaluation.metrics.rows import ALL, COLUMNS
from upheld.evaluation.statistics.intervals import wilson
from upheld.evaluation.thresholds.operating_point import OperatingPoint

KEY = ["item_id", "category"]
MIN_CLASS = 10  # of each class; below it a paired variance of two rankings is itself a guess


class Change(NamedTuple):
    """What the challenger has more than the champion, with its interval; NaN where undefined, and then `reason` says why."""

    value: float
    ci_low: float
    ci_high: float
    reason: str | None


def join(challenger: pd.DataFrame, champion: pd.DataFrame) -> pd.DataFrame:
    """Put the champion's probability beside the challenger's, row by row of item and category.

    Args:
        challenger: item_id, category, language, label (0 or 1), inclusion_prob, prob.
        champion: item_id, category, prob.

    Returns:
        the challenger's rows that the champion scored too, with `prob_champion`.

    Raises:
        pandas.errors.MergeError: an item and category comes twice in either.
    """
    named = champion[[*KEY, "prob"]].rename(columns={"prob": "prob_champion"})
    return challenger.merge(named, on=KEY, how="inner", validate="one_to_one")


def compare(rows: pd.DataFrame, points: Mapping[str, OperatingPoint], alpha: float) -> pd.DataFrame:
    """Compute every paired change, per category and language and pooled over languages.

    Args:
        rows: result of `join`.
        points: operating point of each category; both models are judged at it, as both give calibrated probabilities.
        alpha: two-sided error of the intervals, in (0, 1).

    Returns:
        rows in the columns of metrics.parquet; metrics roc_auc_change, precision_change, recall_change, fpr_change.
    """
    found = []
    for category, of_category in rows.groupby("category", observed=True):
        cells = [(ALL, of_category), *((str(name), part) for name, part in of_category.groupby("language", observed=True))]
        for language, part in cells:
            label, weight = part.label.to_numpy(float), 1 / part.inclusion_prob.to_numpy(float)
            new, old = part.prob.to_numpy(float), part.prob_champion.to_numpy(float)
            flagged_new, flagged_old = ((bin_of(prob) >= points[str(category)].cuts[0]).astype(float) for prob in (new, old))
            benign = 1 - label
            changes = {
                "roc_auc_change": paired_auc(label, weight, new, old, alpha),
                "precision_change": paired_rate(weight, flagged_new * label, flagged_new, flagged_old * label, flagged_old, alpha),
                "recall_change": paired_rate(weight, flagged_new * label, label, flagged_old * label, label, alpha),
                "fpr_change": paired_rate(weight, flagged_new * benign, benign, flagged_old * benign, benign, alpha),
            }
            for metric, change in changes.items():
                cell = (str(category), language, ALL, ALL, metric)
                found.append((*cell, *change[:3], len(part), float(len(part)), None, None, change.reason))
    return pd.DataFrame(found, columns=COLUMNS)


def paired_auc(label: Floats, weight: Floats, new: Floats, old: Floats, alpha: float) -> Change:
    """Compute the AUC of `new` minus the AUC of `old` on the same rows, with its interval.

    Args:
        label: (N,) 0 or 1.
        weight: (N,) > 0.
        new: (N,) scores.
        old: (N,) scores.
        alpha: two-sided error, in (0, 1).

    Source: DeLong, DeLong & Clarke-Pearson (1988), Biometrics 44(3); weights as in Horvitz & Thompson.
    """
    pos = label > 0.5
    if min(pos.sum(), (~pos).sum()) < MIN_CLASS:
        return Change(np.nan, np.nan, np.nan, f"fewer than {MIN_CLASS} labelled rows of one class")
    parts_new, parts_old = _placements(pos, weight, new), _placements(pos, weight, old)
    change, variance = 0.0, 0.0
    for side, (a, b) in zip((pos, ~pos), zip(parts_new, parts_old, strict=True), strict=True):
        w, diff = weight[side], a - b
        change = float((w * diff).sum() / w.sum())  # the same for both sides, up to rounding
        variance += len(w) / (len(w) - 1) * float((w**2 * (diff - change) ** 2).sum()) / float(w.sum()) ** 2
    half = float(ndtri(1 - alpha / 2)) * variance**0.5
    return Change(change, change - half, change + half, None)


def paired_rate(weight: Floats, hit_new: Floats, risk_new: Floats, hit_old: Floats, risk_old: Floats, alpha: float) -> Change:
    """Compute the rate of hits among rows at risk, `new` minus `old`, both measured on the same rows.

    Args:
        weight: (N,) > 0.
        hit_new, risk_new, hit_old, risk_old: (N,) 0 or 1, a hit being at risk.
        alpha: two-sided error, in (0, 1).

    Returns:
        the change; the interval joins each rate's Wilson interval with the correlation of the two.

    Source: Newcombe (1998), Statistics in Medicine 17(22), for paired rates, here without his continuity correction of the correlation;
        in general form Zou & Donner (2008), same journal 27(10).
    """
    rates, lows, highs, influences = [], [], [], []
    for hit, risk in ((hit_new, risk_new), (hit_old, risk_old)):
        total = float((weight * risk).sum())
        if total == 0:
            return Change(np.nan, np.nan, np.nan, "one of the models has no labelled row at risk")
        rate = float((weight * hit).sum()) / total
        trials = total**2 / float((weight**2 * risk).sum())
        low, high = wilson(rate * trials, trials, alpha)
        rates.append(rate)
        lows.append(float(low))
        highs.append(float(high))
        influences.append(weight * (hit - rate * risk) / total)
    scale = float(np.sqrt((influences[0] ** 2).sum() * (influences[1] ** 2).sum()))
    together = float((influences[0] * influences[1]).sum()) / scale if scale > 0 else 0.0
    change = rates[0] - rates[1]
    down, up = _mover(rates[0] - lows[0], highs[1] - rates[1], together), _mover(highs[0] - rates[0], rates[1] - lows[1], together)
    return Change(change, change - down, change + up, None)


def _placements(pos: NDArray[np.bool_], weight: Floats, score: Floats) -> tuple[Floats, Floats]:
    """Compute the share of the other class that each violation outranks, and that each other row is outranked by; ties count half."""
    shares = []
    for mine, sign in ((pos, 1), (~pos, -1)):
        others = score[~mine] * sign
        order = np.argsort(others)
        cumulative = np.concatenate([[0.0], np.cumsum(weight[~mine][order])])
        below, upto = (cumulative[np.searchsorted(others[order], score[mine] * sign, side=side)] for side in ("left", "right"))
        shares.append((below + upto) / 2 / cumulative[-1])
    return shares[0], shares[1]


def _mover(one: float, other: float, together: float) -> float:
    return float(np.sqrt(max(one**2 + other**2 - 2 * together * one * other, 0.0)))
