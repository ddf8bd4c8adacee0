"""Compare a challenger with the champion, or with what served, on the same labelled rows: AUC by DeLong, rates by joined intervals.

See docs/statistics.md, Paired comparison.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

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
RANKING = "roc_auc_change"
OF_CHALLENGER, OF_COMPARATOR = "roc_auc_same_posts", "roc_auc_comparator"  # the two areas whose difference RANKING is


class Comparator(NamedTuple):
    """What a challenger is compared with.

    kind: `champion` is registered and gives calibrated probabilities; `served` made the decisions on these posts, with scores on a scale
        and with thresholds of its own; `nothing` where no labelled post has the score of either.
    names: of the models, those with most labelled posts first; more than one where the model that served was replaced in between.
    """

    kind: Literal["nothing", "champion", "served"]
    names: tuple[str, ...]


NOTHING = Comparator("nothing", ())


class Change(NamedTuple):
    """What the challenger has more than the comparator, with its interval; NaN where undefined, and then `reason` says why."""

    value: float
    ci_low: float
    ci_high: float
    reason: str | None


class Areas(NamedTuple):
    """ROC-AUC of challenger and comparator on the same rows, their difference, the models compared with, and how many rows that are."""

    challenger: float
    comparator: float
    change: Change
    names: tuple[str, ...]
    num_rows: int


def join(challenger: pd.DataFrame, comparator: pd.DataFrame) -> pd.DataFrame:
    """Put the comparator's score beside the challenger's, row by row of item and category.

    Args:
        challenger: item_id, category, language, label (0 or 1), inclusion_prob, prob.
        comparator: item_id, category, prob, model_version.

    Returns:
        the challenger's rows that the comparator scored too, with `prob_comparator` and `model_version`.

    Raises:
        pandas.errors.MergeError: an item and category comes twice in either.
    """
    named = comparator[[*KEY, "prob", "model_version"]].rename(columns={"prob": "prob_comparator"})
    return challenger.merge(named, on=KEY, how="inner", validate="one_to_one")


def compare(rows: pd.DataFrame, points: Mapping[str, OperatingPoint], alpha: float, *, served: bool) -> pd.DataFrame:
    """Compute every paired change, per category and language and pooled over languages.

    Args:
        rows: result of `join`.
        points: operating point of each category; challenger and champion are judged at it, as both give calibrated probabilities.
        alpha: two-sided error of the intervals, in (0, 1).
        served: whether the scores are of what served. Its thresholds are not ours, so rates at ours say nothing of it and are left out.

    Returns:
        rows in the columns of metrics.parquet; metrics RANKING, OF_CHALLENGER and OF_COMPARATOR, of a champion also precision_change,
        recall_change and fpr_change. `reason` of a difference that is defined names the models compared with.
    """
    found = []
    for category, of_category in rows.groupby("category", observed=True):
        cells = [(ALL, of_category), *((str(name), part) for name, part in of_category.groupby("language", observed=True))]
        for language, part in cells:
            label, weight = part.label.to_numpy(float), 1 / part.inclusion_prob.to_numpy(float)
            new, old = part.prob.to_numpy(float), part.prob_comparator.to_numpy(float)
            areas = paired_auc(label, weight, new, old, part.model_version.to_numpy(str), alpha)
            said = areas.change._replace(reason=areas.change.reason or f"against {', '.join(areas.names)}")
            changes = {RANKING: (said, areas.num_rows)}
            for metric, area in ((OF_CHALLENGER, areas.challenger), (OF_COMPARATOR, areas.comparator)):
                changes[metric] = Change(area, np.nan, np.nan, areas.change.reason), areas.num_rows
            if not served:
                flagged, flagged_old = ((bin_of(prob) >= points[str(category)].cuts[0]).astype(float) for prob in (new, old))
                rates = _rate_changes(label, weight, flagged, flagged_old, alpha)
                changes |= {metric: (change, len(part)) for metric, change in rates.items()}
            for metric, (change, num) in changes.items():
                cell = (str(category), language, ALL, ALL, metric)
                found.append((*cell, *change[:3], num, float(num), None, None, change.reason))
    return pd.DataFrame(found, columns=COLUMNS)


def _rate_changes(label: Floats, weight: Floats, new: Floats, old: Floats, alpha: float) -> dict[str, Change]:
    """Changes of the rates at a threshold, by metric; `new` and `old` are 1 where a row is flagged."""
    benign = 1 - label
    return {
        "precision_change": paired_rate(weight, new * label, new, old * label, old, alpha),
        "recall_change": paired_rate(weight, new * label, label, old * label, label, alpha),
        "fpr_change": paired_rate(weight, new * benign, benign, old * benign, benign, alpha),
    }


def paired_auc(label: Floats, weight: Floats, new: Floats, old: Floats, version: NDArray[np.str_], alpha: float) -> Areas:
    """Compute the AUC of `new` minus the AUC of `old` on the same rows, with its interval.

    Scores of two models that served are on different scales, so only pairs of rows with one version of `old` count, for both models.
    A version's pairs count as much as they weigh; one with fewer than MIN_CLASS rows of a class is left out.

    Args:
        label: (N,) 0 or 1.
        weight: (N,) > 0.
        new: (N,) scores.
        old: (N,) scores.
        version: (N,) which model `old` is of.
        alpha: two-sided error, in (0, 1).

    Source: DeLong, DeLong & Clarke-Pearson (1988), Biometrics 44(3); weights as in Horvitz & Thompson.
    """
    names, nums, pairs, areas, variances = [], [], [], [], []
    for name in np.unique(version):
        own = version == name
        pos, own_weight = label[own] > 0.5, weight[own]
        if min(pos.sum(), (~pos).sum()) < MIN_CLASS:
            continue
        parts_new, parts_old = _placements(pos, own_weight, new[own]), _placements(pos, own_weight, old[own])
        area_new, area_old = (float((own_weight[pos] * parts[0]).sum() / own_weight[pos].sum()) for parts in (parts_new, parts_old))
        variance = 0.0
        for side, a, b in zip((pos, ~pos), parts_new, parts_old, strict=True):
            w, deviation = own_weight[side], a - b - (area_new - area_old)
            variance += len(w) / (len(w) - 1) * float((w**2 * deviation**2).sum()) / float(w.sum()) ** 2
        names.append(str(name))
        nums.append(int(own.sum()))
        pairs.append(float(own_weight[pos].sum() * own_weight[~pos].sum()))
        areas.append((area_new, area_old))
        variances.append(variance)
    if not names:
        few = f"fewer than {MIN_CLASS} labelled rows of one class"
        return Areas(np.nan, np.nan, Change(np.nan, np.nan, np.nan, few), (), len(label))
    share = np.array(pairs) / sum(pairs)
    challenger, comparator = (float(value) for value in share @ np.array(areas))
    change, half = challenger - comparator, float(ndtri(1 - alpha / 2) * np.sqrt(share**2 @ np.array(variances)))
    order = sorted(range(len(names)), key=lambda place: (-nums[place], names[place]))
    return Areas(challenger, comparator, Change(change, change - half, change + half, None), tuple(names[k] for k in order), sum(nums))


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
