"""The metrics of one category, each as a block of rows over its slices (languages, or values of a group column)."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from upheld.common.arrays import Floats
from upheld.evaluation.cube.cube import Moment
from upheld.evaluation.metrics import fairness, rates
from upheld.evaluation.metrics.rates import OTHER, REMOVED, REVIEW, VIOLATION, Counts
from upheld.evaluation.statistics import calibration_error, ranking
from upheld.evaluation.thresholds.operating_point import OperatingPoint

ALL = "all"
CELL = ["category", "language", "group_column", "group_value", "metric"]
VALUE_COLUMNS = ["value", "ci_low", "ci_high", "n", "n_eff", "verdict", "need_n", "reason"]
COLUMNS = [*CELL, *VALUE_COLUMNS]
NO_VIOLATION, NO_OTHER = "no labelled violation", "no labelled row without violation"


class Settings(NamedTuple):
    """Error of two-sided intervals, tolerated gap and ratio between groups, family-wise level of WARN, seed of bootstraps."""

    alpha: float
    tau_gap: float
    tau_ratio: float
    level: float
    seed: int


def describe(counts: Counts, point: OperatingPoint, settings: Settings) -> pd.DataFrame:
    """All metrics of one category.

    Returns:
        columns slice, metric and VALUE_COLUMNS; undefined values are null with a reason.
    """
    # Rows, labels and what the thresholds do with the volume; counted over the frame, not estimated.
    rows = counts.by_action[..., Moment.N].sum(1)
    total = rows.sum(-1)
    num_labels = counts.by_action[..., Moment.N][:, [OTHER, VIOLATION]].sum((1, 2))
    removed = counts.removable[:, :, REMOVED, Moment.N].sum(1)
    blocks = [_block(counts, "rows", total, n=total), _block(counts, "labelled", num_labels, n=num_labels)]
    for name, count in (("queue_share", rows[:, REVIEW] + rows[:, REMOVED] - removed), ("auto_remove_share", removed)):
        share = np.divide(count, total, out=np.full(len(total), np.nan), where=total > 0)
        blocks.append(_block(counts, name, share, n=total, missing="no rows", note="counted, not estimated"))
    blocks += _ranking(counts, settings)

    # What probabilities mean.
    pos, neg = counts.by_bin[:, VIOLATION], counts.by_bin[:, OTHER]
    labelled = pos[..., Moment.N].sum(-1) + neg[..., Moment.N].sum(-1)
    effective = ranking.effective(pos + neg)
    brier = calibration_error.brier(pos, neg, settings.alpha)
    error = calibration_error.ce2_debiased(calibration_error.reliability(pos, neg, settings.alpha), settings.alpha, settings.seed)
    few = np.where(labelled > 0, "too few labelled rows", "no labelled row")
    blocks.append(_block(counts, "brier", *brier, labelled, effective, missing="no labelled row"))
    blocks.append(_block(counts, "ce2_debiased", *error, labelled, effective, missing=few))

    # Rates at the review threshold: a row is flagged where it is reviewed or removed.
    note, unflagged = point.note, "nothing labelled is flagged"
    blocks += [
        _rate_block(counts, "base_rate", rates.prevalence(counts), settings, missing="no labelled row"),
        _rate_block(counts, "accuracy", rates.decided_wrongly(counts), settings, flip=True, missing="no labelled row", note=note),
        _rate_block(counts, "precision", rates.flagged_wrongly(counts), settings, flip=True, missing=unflagged, note=note),
        _rate_block(counts, "recall", rates.missed(counts), settings, flip=True, missing=NO_VIOLATION, note=note),
        _rate_block(counts, "fpr", rates.flagged_benign(counts), settings, missing=NO_OTHER, note=note),
        _rate_block(counts, "fnr", rates.missed(counts), settings, missing=NO_VIOLATION, note=note),
    ]
    blocks += _removal(counts, point, settings) + _comparisons(counts, point, settings)
    return pd.concat(blocks, ignore_index=True)


def _ranking(counts: Counts, settings: Settings) -> list[pd.DataFrame]:
    pos, neg = counts.by_bin[:, VIOLATION], counts.by_bin[:, OTHER]
    labelled = pos[..., Moment.N].sum(-1) + neg[..., Moment.N].sum(-1)
    missing = _missing_class(pos, neg)
    areas = [("roc_auc", ranking.roc_auc, pos, neg), ("pr_auc", ranking.average_precision, pos, neg)]
    if len(counts.names) > 1 + counts.pooled:
        # Borkan et al. (2019), "Nuanced metrics for measuring unintended bias": background = everything but the slice.
        rest_pos, rest_neg = _rest(counts, pos), _rest(counts, neg)
        areas += [("bpsn_auc", ranking.roc_auc, rest_pos, neg), ("bnsp_auc", ranking.roc_auc, pos, rest_neg)]
    blocks = []
    for name, area, one, other in areas:
        value, low, high = area(one, other, settings.alpha)
        effective = np.minimum(ranking.effective(one), ranking.effective(other))
        keep = slice(None) if name in ("roc_auc", "pr_auc") or not counts.pooled else slice(None, -1)
        gone = missing if name in ("roc_auc", "pr_auc") else _missing_class(one, other)
        blocks.append(_block(counts, name, value, low, high, labelled, effective, missing=gone).iloc[keep])
    return blocks


def _removal(counts: Counts, point: OperatingPoint, settings: Settings) -> list[pd.DataFrame]:
    """Rates of automatic removal, over the languages where it is on."""
    wrong, missed, benign = rates.removed_wrongly(counts), rates.not_removed(counts), rates.removed_benign(counts)
    off, none = "automatic removal is off in this language", "no labelled automatic removal"
    gone = np.array([point.removal_note or (off if name in point.languages_off else none) for name in counts.names], dtype=object)
    blocks = [
        _rate_block(counts, "precision_auto_remove", wrong, settings, flip=True, missing=gone),
        _rate_block(counts, "wrongful_removal_share", wrong, settings, missing=gone),
    ]
    if not point.removal_note:
        blocks.append(_rate_block(counts, "recall_auto_remove", missed, settings, flip=True, missing=NO_VIOLATION))
        blocks.append(_rate_block(counts, "fpr_auto_remove", benign, settings, missing=NO_OTHER))
    return blocks


def _comparisons(counts: Counts, point: OperatingPoint, settings: Settings) -> list[pd.DataFrame]:
    """Each slice against all others together."""
    num = len(counts.names) - counts.pooled
    if num < 2:
        return []
    kinds = [("fpr", rates.flagged_benign(counts)), ("fnr", rates.missed(counts))]
    if not point.removal_note:
        kinds.append(("wrongful_removal", rates.removed_wrongly(counts)))
    errors = (settings.alpha, settings.level)
    blocks = []
    for name, cells in kinds:
        apart = fairness.Cells(*(part[:num] for part in cells))
        note = point.note if name != "wrongful_removal" else ""
        blocks.append(_verdict_block(counts, f"{name}_gap", fairness.gap(apart, settings.tau_gap, *errors), note))
        blocks.append(_verdict_block(counts, f"{name}_ratio", fairness.ratio(apart, settings.tau_ratio, *errors), note))
    return blocks


def _rate_block(
    counts: Counts, name: str, cells: fairness.Cells, settings: Settings, *, flip: bool = False, missing: Any = "", note: str = ""
) -> pd.DataFrame:
    value, low, high, effective = fairness.rate(cells, settings.alpha)
    if flip:
        value, low, high = 1 - value, 1 - high, 1 - low
    return _block(counts, name, value, low, high, cells.num_labels, effective, missing=missing, note=note)


def _verdict_block(counts: Counts, name: str, found: fairness.Verdicts, note: str) -> pd.DataFrame:
    rows = len(found.value)
    reasons = [" · ".join(part for part in (str(reason or ""), note) if part) or None for reason in found.reason]
    frame = pd.DataFrame({"slice": counts.names[:rows], "metric": name})
    frame["value"], frame["ci_low"], frame["ci_high"] = found.value, found.ci_low, found.ci_high
    frame["n"], frame["n_eff"], frame["verdict"] = found.num_labels, found.num_effective, found.verdict.astype(object)
    frame["need_n"], frame["reason"] = found.need_n, reasons
    return frame


def _block(
    counts: Counts,
    name: str,
    value: Floats,
    low: Floats | None = None,
    high: Floats | None = None,
    n: Floats | float = 0.0,
    effective: Floats | None = None,
    *,
    missing: Any = "",
    note: str = "",
) -> pd.DataFrame:
    """Rows of one metric; where the value is undefined the interval is too, and `missing` says why."""
    known = np.isfinite(value)
    nothing = np.full(len(value), np.nan)
    frame = pd.DataFrame({"slice": counts.names, "metric": name, "value": value})
    frame["ci_low"] = np.where(known, nothing if low is None else low, np.nan)
    frame["ci_high"] = np.where(known, nothing if high is None else high, np.nan)
    frame["n"], frame["n_eff"] = n, n if effective is None else effective
    frame["verdict"], frame["need_n"] = None, np.nan
    frame["reason"] = np.where(known, note or None, np.broadcast_to(np.asarray(missing, dtype=object), known.shape))  # type: ignore[arg-type]
    return frame


def _missing_class(pos: Floats, neg: Floats) -> NDArray[Any]:
    return np.where(pos[..., Moment.N].sum(-1) > 0, NO_OTHER, NO_VIOLATION)


def _rest(counts: Counts, side: Floats) -> Floats:
    """Everything but the slice."""
    total = side[-1:] if counts.pooled else side.sum(0, keepdims=True)
    return np.asarray(np.maximum(total - side, 0.0))
