"""Recall before and after each attack, and what is lost, by policy, language, attack and member (docs/statistics.md, Attacks)."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from upheld.common.arrays import Bools, Floats
from upheld.evaluation.metrics.paired import MIN_CLASS, paired_rate
from upheld.evaluation.metrics.rows import ALL
from upheld.evaluation.robustness.table import ENSEMBLE, IMAGE
from upheld.evaluation.statistics.intervals import wilson

CELL = ["policy", "language", "modality", "attack", "member", "metric"]
# threshold: from which a post counts as found. n: posts that count; n_eff: as many of equal weight say as much. clean and attacked: the
# rate before and after, with Wilson's interval. lost: the first minus the second, with its paired interval ci_low to ci_high. edits: mean
# number of letters or pixels changed. reason: why the rates are missing, where they are.
FIGURES = ["threshold", "n", "n_eff", "clean", "clean_low", "clean_high", "attacked", "attacked_low", "attacked_high",
           "lost", "ci_low", "ci_high", "edits", "reason"]  # fmt: skip
RECALL, ACCURACY = "recall", "accuracy"
TOLERANCE = 1e-9  # of a share, for what sums of weights leave over


def measure(rows: pd.DataFrame, thresholds: Mapping[str, float], alpha: float) -> pd.DataFrame:
    """Every figure of every cell.

    Args:
        rows: of `table.read`; probabilities of the ensemble on the scale of the thresholds.
        thresholds: policy -> probability from which the ensemble's posts are reviewed; every policy of the rows has one.
        alpha: two-sided error of the intervals, in (0, 1).

    Returns:
        columns CELL and FIGURES, sorted by CELL. metric `recall`: share of violations that are found. metric `accuracy`, of attacks on
        pictures where harmless posts were attacked too: share of posts that are rightly found or rightly left alone. language `all` is
        the pooled cell. With fewer than MIN_CLASS posts the rates are NaN and `reason` says so.
    """
    cuts = member_thresholds(rows, thresholds)
    found = []
    for (policy, modality, attack, member), own in rows.groupby(["policy", "modality", "attack", "member"]):
        cut = cuts.get((str(policy), str(modality), str(member)), np.nan)
        for language, part in ((ALL, own), *own.groupby("language")):
            label, weight = part.label.to_numpy(bool), part.weight.to_numpy(float)
            before, after = (part[name].to_numpy(float) >= cut for name in ("clean_prob", "attacked_prob"))
            kinds = [(RECALL, label, before, after)]
            if modality == IMAGE and not label.all() and not np.isnan(cut):
                kinds.append((ACCURACY, np.ones(len(label), bool), before == label, after == label))
            for metric, counted, one, other in kinds:
                edits = float(part.edits[counted].mean()) if counted.any() else np.nan
                rates = _rates(weight[counted], one[counted], other[counted], metric, alpha)
                found.append((policy, language, modality, attack, member, metric, cut, *rates[:-1], edits, rates[-1]))
    table = pd.DataFrame(found, columns=[*CELL, *FIGURES]).sort_values(CELL, ignore_index=True)
    numbers = [name for name in FIGURES if name not in ("n", "reason")]
    return table.astype({**dict.fromkeys([*CELL, "reason"], "str"), "n": "int64", **dict.fromkeys(numbers, "float64")})


def member_thresholds(rows: pd.DataFrame, thresholds: Mapping[str, float]) -> dict[tuple[str, str, str], float]:
    """The probability from which a post counts as found, by policy, modality and member.

    Of the ensemble it is the one given. A single member has another scale and no threshold of its own: it gets the highest one at which
    it finds, before any attack, at least the share of the violations that the ensemble finds. So both start from the same recall. Without
    a violation there is none; where the ensemble finds nothing it is infinite.
    """
    found: dict[tuple[str, str, str], float] = {}
    for policy, modality in rows[["policy", "modality"]].drop_duplicates().itertuples(index=False, name=None):
        own = rows[(rows.policy == policy) & (rows.modality == modality)]
        found[policy, modality, ENSEMBLE] = thresholds[policy]
        clean = own[own.label].drop_duplicates(["post_id", "member"])  # what was said before is the same whatever the attack
        ensemble = clean[clean.member == ENSEMBLE]
        reached = 0.0 if ensemble.empty else np.average(ensemble.clean_prob >= thresholds[policy], weights=ensemble.weight)
        for member in clean.member[clean.member != ENSEMBLE].unique():
            ranked = clean[clean.member == member].sort_values("clean_prob", ascending=False)
            enough = ranked.weight.cumsum() >= (reached - TOLERANCE) * ranked.weight.sum()
            found[policy, modality, member] = float(ranked.clean_prob[enough].iloc[0]) if reached > 0 else np.inf
    return found


def _rates(weight: Floats, before: Bools, after: Bools, metric: str, alpha: float) -> tuple[float | str | None, ...]:
    """n to ci_high of FIGURES, and the reason."""
    num = len(weight)
    if num < MIN_CLASS:
        what = "violations" if metric == RECALL else "labelled posts"
        return num, *(np.nan,) * 10, f"fewer than {MIN_CLASS} {what} were attacked"
    trials = float(weight.sum() ** 2 / (weight**2).sum())
    ends: list[float] = []
    for hit in (before, after):
        rate = float((weight * hit).sum() / weight.sum())
        ends += [rate, *(float(end) for end in wilson(rate * trials, trials, alpha))]
    ones = np.ones(num)
    lost = paired_rate(weight, before.astype(float), ones, after.astype(float), ones, alpha)
    return num, trials, *ends, lost.value, lost.ci_low, lost.ci_high, None
