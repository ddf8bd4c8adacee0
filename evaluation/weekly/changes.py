"""What the proposed thresholds would change in a week's work, and which evidence is missing."""

from collections.abc import Iterator, Mapping
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


def volumes(cube: Cube, points: Mapping[str, OperatingPoint]) -> dict[str, dict[str, int]]:
    """Posts of the week by what the thresholds do with them: category -> {none, review, auto_remove}."""
    told = {}
    for category in cube.categories:
        point = points[category]
        by_language = cut(one_category(cube, category), [point.cuts], ("language",))[..., Moment.N]
        off = np.array([name in point.languages_off for name in cube.languages])
        none, review, removed = by_language.sum(axis=0)
        withheld = by_language[off, 2].sum()
        told[category] = {"none": int(none), "review": int(review + withheld), "auto_remove": int(removed - withheld)}
    return told


def compare(cube: Cube, now: Mapping[str, OperatingPoint], proposed: Mapping[str, OperatingPoint], decided: Thresholds) -> list[Any]:
    """Thresholds in force against the proposed ones, with the posts of the week that either would remove or queue."""
    before, after = volumes(cube, now), volumes(cube, proposed)
    certificates = {name: {"auto_remove": one.auto_remove, "review": one.review} for name, one in decided.categories.items()}
    return [
        {
            "category": category,
            "now": {action: told.incumbent for action, told in certificates[category].items()},
            "proposed": {action: told.threshold for action, told in certificates[category].items()},
            "outcome": {action: told.outcome for action, told in certificates[category].items()},
            "stops_in": sorted(_removing(cube, now[category]) - _removing(cube, proposed[category])),
            "starts_in": sorted(_removing(cube, proposed[category]) - _removing(cube, now[category])),
            "volume_now": before[category],
            "volume_proposed": after[category],
        }
        for category in cube.categories
    ]


def _removing(cube: Cube, point: OperatingPoint) -> set[str]:
    """Languages in which automatic removal is on."""
    return set() if point.auto_remove == NUM_BINS else set(cube.languages) - point.languages_off


def missing_evidence(decided: Thresholds, table: pd.DataFrame, corrected: list[dict[str, Any]], section: Reviewers) -> list[dict[str, Any]]:
    """Every question that this week's labels leave open, and how many further labels would answer it; the dearest last.

    Args:
        decided: proposed thresholds.
        table: metrics of the week.
        corrected: of `people.corrected_precision`.
        section: params.reviewers.

    Returns:
        [{category, language, purpose, have, need, cost}]; need and cost are None where no number of labels would do.
    """
    rows = [*_thresholds(decided), *_languages(table), *_gold(corrected, section)]
    return sorted(rows, key=lambda row: (row["cost"] is None, row["cost"] or 0))


def _thresholds(decided: Thresholds) -> Iterator[dict[str, Any]]:
    for name, category in decided.categories.items():
        for action, told in (("auto_remove", category.auto_remove), ("review", category.review)):
            if told.outcome != "certified" and (told.need_n is not None or told.path):
                num = told.n or 0
                elsewhere = told.need_n is not None and told.need_n <= num  # the certificate says for which threshold
                purpose = PURPOSES[action] + (" at another threshold" if elsewhere else "")
                yield _row(name, "all", purpose, 0 if elsewhere else num, told.need_n)


def _languages(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    there = set(table[(table.metric == "rows") & (table.value > 0)][["category", "language"]].itertuples(index=False, name=None))
    open_ = table[(table.verdict == "INSUFFICIENT") & table.metric.isin(list(PURPOSES)) & (table.group_column == "all")]
    for row in open_.itertuples():
        if (row.category, row.language) not in there:
            continue  # labels of posts that do not exist cannot be bought
        need = None if pd.isna(row.need_n) else int(row.need_n)  # type: ignore[arg-type]
        yield _row(str(row.category), str(row.language), PURPOSES[str(row.metric)], int(row.n), need)  # type: ignore[arg-type]


def _gold(corrected: list[dict[str, Any]], section: Reviewers) -> Iterator[dict[str, Any]]:
    for told in corrected:
        for kind, name in (("gold_violations", "violations"), ("gold_others", "harmless items")):
            if told[kind] < section.min_gold and told["refused"] and "no audited" not in told["refused"]:
                yield _row(told["category"], "all", f"adjudicated {name}, to correct for reviewers' errors", told[kind], section.min_gold)


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
