"""Names and numbers as a reader says them."""

from collections.abc import Mapping
from typing import Any

METRICS = {
    "rows": "rows",
    "labelled": "labelled rows",
    "base_rate": "share of violations",
    "queue_share": "share of posts sent to review",
    "auto_remove_share": "share of posts removed automatically",
    "roc_auc": "ranking (ROC-AUC)",
    "pr_auc": "average precision (PR-AUC)",
    "bpsn_auc": "ranking of its harmless posts against others' violations (BPSN)",
    "bnsp_auc": "ranking of its violations against others' harmless posts (BNSP)",
    "brier": "Brier score",
    "ce2_debiased": "calibration error (squared, debiased)",
    "accuracy": "share of posts rightly flagged or rightly left alone",
    "precision": "share of flagged posts that are violations",
    "recall": "share of violations that are flagged",
    "fpr": "share of harmless posts that are flagged",
    "fnr": "share of violations that are missed",
    "precision_auto_remove": "share of automatic removals that were right",
    "recall_auto_remove": "share of violations removed automatically",
    "fpr_auto_remove": "share of harmless posts removed automatically",
    "wrongful_removal_share": "share of automatic removals that were wrong",
    "fpr_gap": "harmless posts flagged, against the others",
    "fnr_gap": "violations missed, against the others",
    "fpr_ratio": "harmless posts flagged, as a multiple of the others",
    "fnr_ratio": "violations missed, as a multiple of the others",
    "wrongful_removal_gap": "wrong automatic removals, against the others",
    "wrongful_removal_ratio": "wrong automatic removals, as a multiple of the others",
    "roc_auc_change": "change of the ranking (ROC-AUC)",
    "roc_auc_same_posts": "ranking (ROC-AUC) of the posts that both models scored",
    "roc_auc_comparator": "the other model's ranking (ROC-AUC) of the same posts",
    "precision_change": "change of precision",
    "recall_change": "change of recall",
    "fpr_change": "change of the share of harmless posts flagged",
    "pass_rate": "cases decided as expected",
    "flip_rate": "pairs decided differently",
    "score_shift": "mean shift of the probability",
    "ordered_rate": "violations that score higher than their harmless twins",
    "certificate": "certificate of automatic removal",
    "required_cells": "required cells",
    "map_50": "marks found and placed (mAP@50)",
    "map_50_95": "the same, placed exactly (mAP@50:95)",
    "false_alarms_per_1000": "false alarms on 1,000 photos without a logo",
    "logo_map_50": "logo detector (mAP@50)",
    "logo_certificate": "certificate of the logo detector's confidence",
    "recall_lost": "share of violations that an attack hides",
}
GAPS = {
    "fpr": ("harmless posts are flagged", "fpr_gap", "fpr_ratio"),
    "fnr": ("violations are missed", "fnr_gap", "fnr_ratio"),
    "wrongful_removal_share": ("automatic removals are wrong", "wrongful_removal_gap", "wrongful_removal_ratio"),
}

NEARLY = 1e-9  # of 0 or 1: what sums of weights leave over
TOO_FEW = "too few to say"
MAX_DOUBT = 0.5  # where none or all of the labels leave more open than this, their bound says nothing


def words(name: str) -> str:
    """An id as a reader says it."""
    return METRICS.get(name, name.replace("_", " "))


def scope(text: str) -> str:
    """`category/language` in words."""
    category, _, rest = text.partition("/")
    rest = rest.removeprefix("all/").replace("=", " ")
    return f"{category.replace('_', ' ')}{'' if rest in ('', 'all') else ', ' + rest}"


def share(value: float) -> str:
    """A target, a bound or an interval's end as a percentage: one decimal, two below 1 %, and never a rounded 0 or 100.

    A measured share goes through `part` or `measured`: a handful of labels gives 0 % or 100 % as easily as thousands do.
    """
    percent = 100 * value
    if 0 < percent < 0.01:
        return "<0.01 %"
    if 99.99 < percent < 100:
        return ">99.99 %"
    return f"{percent:.2f} %" if 0 < percent < 1 or 99 < percent < 100 else f"{percent:.1f} %"


def whole(value: float) -> bool:
    """Whether a share is none or all of what was counted."""
    return value < NEARLY or value > 1 - NEARLY


def part(value: float) -> str:
    """A measured share as a percentage, or `none` or `all`."""
    return share(value) if not whole(value) else "none" if value < NEARLY else "all"


def measured(row: Mapping[str, Any]) -> str:
    """A measured share; where it is none or all, the bound that the labels give, or that they are too few to give one.

    Args:
        row: value, ci_low, ci_high and n of a metric; a figure that was counted over everything has no interval.
    """
    if not whole(row["value"]):
        return share(row["value"])
    none = row["value"] < NEARLY
    bound = row["ci_high"] if none else row["ci_low"]
    if bound is None or abs(bound - row["value"]) < NEARLY:
        return _counted(row)
    if abs(bound - row["value"]) > MAX_DOUBT:
        return TOO_FEW
    return f"at {'most' if none else 'least'} {share(bound)}"


def evidence(row: Mapping[str, Any]) -> str:
    """What stands beside `measured`: the interval, or of how many labels none or all were so; nothing where that is said already."""
    if whole(row["value"]):
        return "" if measured(row) == _counted(row) else _counted(row)
    if row["ci_low"] is None:
        return ""
    return f"{share(row['ci_low'])} to {share(row['ci_high'])}" if row["ci_high"] is not None else f"at least {share(row['ci_low'])}"


def _counted(row: Mapping[str, Any]) -> str:
    return f"{0 if row['value'] < NEARLY else row['n']:,.0f} of {row['n']:,.0f}"


def points(value: float) -> str:
    """A difference of two shares in percentage points, without the unit; what rounds to nothing has no sign."""
    return f"{round(100 * value, 1) + 0.0:.1f}"


def percent(value: float) -> str:
    """A target in a sentence, without decimals that it does not have."""
    return f"{100 * value:g} %"


def spaced(name: str) -> str:
    """An id with spaces."""
    return name.replace("_", " ")


def name_of(category: Mapping[str, Any]) -> str:
    """A category's name in words."""
    return spaced(str(category["name"]))


def listed(names: list[str]) -> str:
    """Names in a row, the sixth and further ones only counted."""
    shown = names if len(names) <= 6 else [*names[:5], f"{len(names) - 5} more"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def count(number: int, noun: str) -> str:
    """A number with its noun."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def agree(number: int, one: str, several: str) -> str:
    """The form of a verb that goes with a number of things."""
    return one if number == 1 else several


def capital(text: str) -> str:
    """The text with a capital first letter."""
    return text[:1].upper() + text[1:]
