"""What the proposed thresholds would change in a week's work, and which evidence is missing."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from upheld.common.params.evaluation import Reviewers
from upheld.evaluation.cube.bins import NUM_BINS
from upheld.evaluation.cube.cube import Cube, Moment, cut, one_category
from upheld.evaluation.thresholds.operating_point import OperatingPoint
from upheld.feature_store.decisions.thresholds import Thresholds

PURPOSES = {
    "auto_remove": "to certify automatic removal",
    "review": "below the review threshold, to certify recall",
    "fpr_gap": "of harmless posts, to compare it with the other languages",
    "fnr_gap": "of violations, to compare it with the other languages",
    "wrongful_removal_gap": "of automatic removals, to compare it with the other languages",
}

FIGURES = ("precision_auto_remove", "recall", "fpr", "fnr", "wrongful_removal_share", "fpr_gap", "fnr_gap", "wrongful_removal_gap")
MAX_MOVED = 12


def volumes(cube: Cube, points: Mapping[str, OperatingPoint]) -> dict[str, dict[str, int]]:
    """Posts of the week by what the thresholds do with them: category -> {none, review, auto_remove}."""
    counts = {}
    for category in cube.categories:
        point = points[category]
        by_language = cut(one_category(cube, category), [point.cuts], ("language",))[..., Moment.N]
        off = np.array([name in point.languages_off for name in cube.languages])
        none, review, removed = by_language.sum(axis=0)
        withheld = by_language[off, 2].sum()
        counts[category] = {"none": int(none), "review": int(review + withheld), "auto_remove": int(removed - withheld)}
    return counts


def compare(cube: Cube, now: Mapping[str, OperatingPoint], proposed: Mapping[str, OperatingPoint], decided: Thresholds) -> list[Any]:
    """Thresholds in force against the proposed ones, with the posts of the week that either would remove or queue."""
    before, after = volumes(cube, now), volumes(cube, proposed)
    certificates = {name: {"auto_remove": one.auto_remove, "review": one.review} for name, one in decided.categories.items()}
    return [
        {
            "category": category,
            "now": {action: one.incumbent for action, one in certificates[category].items()},
            "proposed": {action: one.threshold for action, one in certificates[category].items()},
            "outcome": {action: one.outcome for action, one in certificates[category].items()},
            "stops_in": sorted(_removing(cube, now[category]) - _removing(cube, proposed[category])),
            "starts_in": sorted(_removing(cube, proposed[category]) - _removing(cube, now[category])),
            "volume_now": before[category],
            "volume_proposed": after[category],
        }
        for category in cube.categories
    ]


def moved(metrics: pd.DataFrame, without: pd.DataFrame | None) -> dict[str, Any]:
    """Figures of a week as they are and as they would be by other labels, those that differ, the largest difference first.

    Args:
        metrics, without: long tables as in metrics.parquet; None: there are no other labels.

    Returns:
        num: how many of FIGURES differ; num_lost: how many verdicts do; rows: the first MAX_MOVED, {category, language, metric, before,
        after, lost}, before and after with value, ci_low, ci_high, n and verdict (value is None where it is undefined), lost whether a
        verdict changes.
    """
    if without is None:
        return {"num": 0, "num_lost": 0, "rows": []}
    key, shown = ["category", "language", "metric"], ["value", "ci_low", "ci_high", "n", "verdict"]
    tables = [
        table[(table.group_column == "all") & table.metric.isin(FIGURES)].set_index(key)[shown].astype(object)
        for table in (metrics, without)
    ]
    before, after = (table.where(table.notna(), None) for table in tables)
    rows = []
    for cell in before.index.intersection(after.index):
        old, new = before.loc[cell].to_dict(), after.loc[cell].to_dict()
        if old["value"] != new["value"]:
            gap = 0.0 if None in (old["value"], new["value"]) else abs(old["value"] - new["value"])
            rows.append((gap, dict(zip(key, cell, strict=True)) | {"before": old, "after": new, "lost": old["verdict"] != new["verdict"]}))
    rows.sort(key=lambda row: (not row[1]["lost"], -row[0]))
    lost = sum(row["lost"] for _, row in rows)
    return {"num": len(rows), "num_lost": lost, "rows": [row for _, row in rows[:MAX_MOVED]]}


def _removing(cube: Cube, point: OperatingPoint) -> set[str]:
    """Languages in which automatic removal is on."""
    return set() if point.auto_remove == NUM_BINS else set(cube.languages) - point.languages_off


def missing_evidence(decided: Thresholds, table: pd.DataFrame, corrected: list[dict[str, Any]], section: Reviewers) -> list[dict[str, Any]]:
    """Every question that this week's labels leave open, and how many further labels would answer it; the dearest last.

    Args:
        decided: proposed thresholds.
        table: metrics of the week.
        corrected: of `people.corrected_precision`.

    Returns:
        [{category, language, purpose, have, need, cost}]; need and cost are None where no number of labels would do.
    """
    rows = []
    for name, category in decided.categories.items():
        for action, certificate in (("auto_remove", category.auto_remove), ("review", category.review)):
            if certificate.outcome != "certified" and (certificate.need_n is not None or certificate.path):
                num = certificate.n or 0
                elsewhere = certificate.need_n is not None and certificate.need_n <= num  # the certificate says for which threshold
                purpose = PURPOSES[action] + (" at another threshold" if elsewhere else "")
                rows.append(_row(name, "all", purpose, 0 if elsewhere else num, certificate.need_n))
    there = set(table[(table.metric == "rows") & (table.value > 0)][["category", "language"]].itertuples(index=False, name=None))
    open_ = table[(table.verdict == "INSUFFICIENT") & table.metric.isin(list(PURPOSES)) & (table.group_column == "all")]
    for row in open_.itertuples():
        if (row.category, row.language) in there:  # labels of posts that do not exist cannot be bought
            need = None if pd.isna(row.need_n) else int(row.need_n)  # type: ignore[arg-type]
            rows.append(_row(str(row.category), str(row.language), PURPOSES[str(row.metric)], int(row.n), need))  # type: ignore[arg-type]
    for precision in corrected:
        for kind, name in (("gold_violations", "violations"), ("gold_others", "harmless items")):
            if precision[kind] < section.min_gold and precision["refused"] and "no audited" not in precision["refused"]:
                purpose = f"adjudicated {name}, to correct for reviewers' errors"
                rows.append(_row(precision["category"], "all", purpose, precision[kind], section.min_gold))
    return sorted(rows, key=lambda row: (row["cost"] is None, row["cost"] or 0))


def _row(category: str, language: str, purpose: str, have: int, need: int | None) -> dict[str, Any]:
    need = None if need is None else int(need)
    return {
        "category": category,
        "language": language,
        "purpose": purpose,
        "have": int(have),
        "need": need,
        "cost": None if need is None else max(need - int(have), 0),
    }
