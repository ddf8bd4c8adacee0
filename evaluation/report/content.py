"""What the report shows, as plain data: report.json is this, and the pages are drawn from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from upheld.evaluation.cube.bins import NUM_BINS, edges
from upheld.evaluation.cube.cube import Cube
from upheld.evaluation.metrics.rows import ALL, Settings
from upheld.evaluation.report import changes, curves, sentences
from upheld.evaluation.scores.selection import Facts
from upheld.evaluation.thresholds.operating_point import OperatingPoint
from upheld.feature_store.decisions.thresholds import Thresholds

SUMMARY = ("rows", "labelled", "base_rate", "queue_share", "auto_remove_share", "roc_auc", "pr_auc", "precision", "recall", "fpr", "fnr",
           "precision_auto_remove", "recall_auto_remove", "brier", "ce2_debiased")  # fmt: skip
SLICE = ("rows", "labelled", "base_rate", "roc_auc", "precision", "recall", "fpr", "fnr", "fpr_gap", "fnr_gap", "fpr_ratio", "fnr_ratio",
         "wrongful_removal_share", "wrongful_removal_gap", "ce2_debiased", "bpsn_auc", "bnsp_auc")  # fmt: skip
CHANGES = ("roc_auc_change", "precision_change", "recall_change", "fpr_change")


@dataclass(frozen=True)
class Evaluation:
    """What a report tells of one model.

    facts: what was read.
    metrics: the long table.
    gate: decision and checks.
    thresholds: those that rule, or that are proposed, or None.
    cube: calibrated scores by language.
    points: operating points.
    limits: error of intervals and tolerated gaps.
    calibrated: whether a calibration was applied.
    has_champion: whether a champion was compared with.
    frozen: categories in which a person has stopped automatic removal: category, who, at (ISO 8601), reason.
    behaviour: of `behaviour_files.load`.
    examples: of `examples.pick`.
    logos: of `logos.read`; None where no detector was evaluated.
    """

    facts: Facts
    metrics: pd.DataFrame
    gate: Mapping[str, Any]
    thresholds: Thresholds | None
    cube: Cube
    points: Mapping[str, OperatingPoint]
    limits: Settings
    calibrated: bool
    has_champion: bool
    frozen: Sequence[Mapping[str, Any]] = ()
    behaviour: Sequence[Mapping[str, Any]] = ()
    examples: Mapping[str, Any] = field(default_factory=dict)
    logos: Mapping[str, Any] | None = None


def build(of: Evaluation) -> dict[str, Any]:
    """Gather the report: JSON-ready content, in which numbers are numbers or null."""
    lookup = _lookup(of.metrics)
    of_each = (_category(name, lookup, of.metrics, of.thresholds, of.points[name]) for name in of.cube.categories)
    charts = curves.of_categories(of.cube, of.limits.alpha)
    drawn = [{**category, "charts": some} for category, some in zip(of_each, charts, strict=True)]
    categories = sorted(drawn, key=lambda category: -(category["metrics"]["labelled"] or {"value": 0})["value"])  # most evidence first
    story: dict[str, Any] = {
        "synthetic": of.facts.synthetic,
        "data": {**vars(of.facts), "splits_used": list(of.facts.splits_used), "periods": list(of.facts.periods)},
        "decision": of.gate["decision"],
        "gate": dict(of.gate),
        "limits": {"interval_error": of.limits.alpha, "tau_gap": of.limits.tau_gap, "tau_ratio": of.limits.tau_ratio},
        "calibrated": of.calibrated,
        "has_champion": of.has_champion,
        "frozen": list(of.frozen),
        "behaviour": list(of.behaviour),
        "examples": dict(of.examples),
        "languages": list(of.cube.languages),
        "categories": categories,
        "heat_map": _heat_map(lookup, of.cube.languages, [category["name"] for category in categories]),
    }
    story |= {} if of.logos is None else {"logos": dict(of.logos)}
    return {"headline": sentences.headline(of.gate), "changed": changes.changed(story), "attention": sentences.attention(story), **story}


def _category(
    name: str, lookup: Mapping[Any, Any], metrics: pd.DataFrame, thresholds: Thresholds | None, point: OperatingPoint
) -> dict[str, Any]:
    certified = thresholds.categories.get(name) if thresholds else None
    of_category = metrics[metrics.category == name]
    languages = [language for language in of_category.language.unique() if language != ALL]
    pairs = of_category[of_category.group_column != ALL][["group_column", "group_value"]].drop_duplicates()
    groups: dict[str, list[Any]] = {}
    for column, value in pairs.itertuples(index=False):
        groups.setdefault(column, []).append({"name": value, "metrics": _cell(lookup, SLICE, name, ALL, column, value)})
    slices = [{"name": language, "metrics": _cell(lookup, (*SLICE, *CHANGES), name, language)} for language in languages]
    return {
        "name": name,
        "note": point.note,
        "removal_note": point.removal_note,
        "languages_off": sorted(point.languages_off),
        "threshold_review": float(edges()[point.review]) if point.review < NUM_BINS else None,
        "threshold_auto_remove": float(edges()[point.auto_remove]) if point.auto_remove < NUM_BINS else None,
        "certificates": certified and certified.model_dump(exclude_unset=True),
        "metrics": _cell(lookup, (*SUMMARY, *CHANGES), name, ALL),
        "languages": sorted(slices, key=lambda item: -(item["metrics"]["rows"]["value"] or 0)),
        "groups": groups,
    }


def _lookup(metrics: pd.DataFrame) -> dict[Any, dict[str, Any]]:
    """(category, language, group column, group value, metric) -> JSON-ready row."""
    rows = metrics.astype(object).where(metrics.notna(), None)
    return {
        tuple(row[:5]): dict(zip(("value", "ci_low", "ci_high", "n", "n_eff", "verdict", "need_n", "reason"), row[5:], strict=True))
        for row in rows.itertuples(index=False, name=None)
    }


def _cell(
    lookup: Mapping[Any, Any], names: tuple[str, ...], category: str, language: str, column: str = ALL, value: str = ALL
) -> dict[str, Any]:
    return {name: lookup.get((category, language, column, value, name)) for name in names}


def _heat_map(lookup: Mapping[Any, Any], languages: Sequence[str], categories: Sequence[str]) -> list[dict[str, Any]]:
    """Per language, the flagged share of harmless posts in each of `categories`, with the verdict of its gap to the others; a multiple that
    the gap hides (at low rates) is a WARN."""
    rows = []
    for language in languages:
        cells = []
        for category in categories:
            rate, gap, ratio = (lookup.get((category, language, ALL, ALL, name)) or {} for name in ("fpr", "fpr_gap", "fpr_ratio"))
            hidden = gap.get("verdict") not in ("FAIL", "WARN") and ratio.get("verdict") in ("FAIL", "WARN")
            rows_there = (lookup.get((category, language, ALL, ALL, "rows")) or {}).get("value") or 0
            cells.append({"category": category, "rows": rows_there, "fpr": rate.get("value"), "n": rate.get("n"),
                          "ci_low": rate.get("ci_low"), "ci_high": rate.get("ci_high"),
                          "verdict": "WARN" if hidden else gap.get("verdict"), "need_n": gap.get("need_n")})  # fmt: skip
        rows.append({"language": language, "cells": cells})
    return rows
