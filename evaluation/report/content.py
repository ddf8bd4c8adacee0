"""What the report shows, as plain data: report.json is this, and the pages are drawn from it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from upheld.common.errors import BadUse
from upheld.evaluation.cube.bins import NUM_BINS, bin_of, centres, edges
from upheld.evaluation.cube.cube import Cube, dense
from upheld.evaluation.metrics.paired import Comparator
from upheld.evaluation.metrics.rows import ALL, Settings
from upheld.evaluation.report import attacks, comparison, members, sentences
from upheld.evaluation.report.words import capital, listed, name_of
from upheld.evaluation.scores.selection import Facts
from upheld.evaluation.statistics import calibration_error
from upheld.evaluation.thresholds.operating_point import OperatingPoint
from upheld.feature_store.decisions.thresholds import Thresholds

SUMMARY = ("rows", "labelled", "base_rate", "queue_share", "auto_remove_share", "roc_auc", "pr_auc", "precision", "recall", "fpr", "fnr",
           "precision_auto_remove", "recall_auto_remove", "brier", "ce2_debiased")  # fmt: skip
SLICE = ("rows", "labelled", "base_rate", "roc_auc", "precision", "recall", "fpr", "fnr", "fpr_gap", "fnr_gap", "fpr_ratio", "fnr_ratio",
         "wrongful_removal_share", "wrongful_removal_gap", "ce2_debiased", "bpsn_auc", "bnsp_auc")  # fmt: skip
Story = Mapping[str, Any]
NUM_STEPS = 32
MAX_CURVE_POINTS = 120
LOWEST, HIGHEST = 0.0005, 0.9995
ROWS_PER_DOT, MIN_ROWS_OF_DOT = 25, 5  # labelled rows that a dot of the reliability curve stands for
MIN_POSTS = 20  # of a language that may be named as the least covered
MAX_EXAMPLES = 5  # of each kind
MAX_ROWS_READ_AGAIN = 1_000_000  # of a table whose rows are read once more for examples; a longer one is no table that people look through


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
    compared: what this model was compared with.
    frozen: categories in which a person has stopped automatic removal: category, who, at (ISO 8601), reason.
    held: reviewers whose verdicts a person has taken out: reviewer_id, since and at (ISO 8601), who, reason.
    behaviour: of `behaviour.load`.
    examples: of `pick_examples`.
    logos: of `logos.read`; None where no detector was evaluated.
    attacks: of `robustness.figures.measure`; None where no attack was tried.
    fusion: of `members.read`; None where that is not known.
    """

    facts: Facts
    metrics: pd.DataFrame
    gate: Mapping[str, Any]
    thresholds: Thresholds | None
    cube: Cube
    points: Mapping[str, OperatingPoint]
    limits: Settings
    calibrated: bool
    compared: Comparator
    frozen: Sequence[Mapping[str, Any]] = ()
    held: Sequence[Mapping[str, Any]] = ()
    behaviour: Sequence[Mapping[str, Any]] = ()
    examples: Mapping[str, Any] = field(default_factory=dict)
    logos: Mapping[str, Any] | None = None
    attacks: pd.DataFrame | None = None
    fusion: Mapping[str, Any] | None = None


def build(of: Evaluation) -> dict[str, Any]:
    """Gather the report: JSON-ready content, in which numbers are numbers or null."""
    rows = of.metrics.astype(object).where(of.metrics.notna(), None)
    figures = ("value", "ci_low", "ci_high", "n", "n_eff", "verdict", "need_n", "reason")
    # (category, language, group column, group value, metric) -> JSON-ready row
    lookup = {tuple(row[:5]): dict(zip(figures, row[5:], strict=True)) for row in rows.itertuples(index=False, name=None)}
    of_each = (_category(name, lookup, of.metrics, of.thresholds, of.points[name]) for name in of.cube.categories)
    charts = chart_points(of.cube, of.limits.alpha)
    drawn = [{**category, "charts": some} for category, some in zip(of_each, charts, strict=True)]
    categories = sorted(drawn, key=lambda category: -(category["metrics"]["labelled"] or {"value": 0})["value"])  # most evidence first
    story: dict[str, Any] = {
        "synthetic": of.facts.synthetic,
        "data": {**vars(of.facts), "splits_used": list(of.facts.splits_used), "periods": list(of.facts.periods)},
        "decision": of.gate["decision"],
        "gate": dict(of.gate),
        "limits": {"interval_error": of.limits.alpha, "tau_gap": of.limits.tau_gap, "tau_ratio": of.limits.tau_ratio},
        "calibrated": of.calibrated,
        "comparison": of.compared._asdict() | {"rows": comparison.table(of.metrics)},
        "fusion": {"importance": []} | dict(of.fusion or {"incumbent": None, "sentences": []}),
        "frozen": list(of.frozen),
        "held": list(of.held),
        "behaviour": list(of.behaviour),
        "examples": dict(of.examples),
        "languages": list(of.cube.languages),
        "categories": categories,
        "heat_map": _heat_map(lookup, of.cube.languages, [category["name"] for category in categories]),
    }
    story |= {} if of.logos is None else {"logos": dict(of.logos)}
    if of.attacks is not None:
        pooled = of.metrics[(of.metrics.metric == "recall") & (of.metrics.language == ALL) & (of.metrics.group_column == ALL)]
        story["attacks"] = attacks.content(of.attacks, int(pooled.n.sum()))  # recall counts the labelled violations
    return {"headline": sentences.headline(of.gate), "changed": changed(story), "attention": sentences.attention(story), **story}


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
    slices = [{"name": language, "metrics": _cell(lookup, SLICE, name, language)} for language in languages]
    return {
        "name": name,
        "note": point.note,
        "removal_note": point.removal_note,
        "languages_off": sorted(point.languages_off),
        "threshold_review": float(edges()[point.review]) if point.review < NUM_BINS else None,
        "threshold_auto_remove": float(edges()[point.auto_remove]) if point.auto_remove < NUM_BINS else None,
        "certificates": certified and certified.model_dump(exclude_unset=True),
        "metrics": _cell(lookup, SUMMARY, name, ALL),
        "languages": sorted(slices, key=lambda item: -(item["metrics"]["rows"]["value"] or 0)),
        "groups": groups,
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


def changed(story: Story) -> list[str]:
    """What is different from what is in force: the ranking of the same posts by the model compared with, and thresholds."""
    together: dict[str, list[str]] = {}
    for category in story["categories"]:
        lines = []
        for action, name in (("auto_remove", "automatic removal"), ("review", "review")):
            certificate = (category["certificates"] or {}).get(action)
            if certificate is None:
                continue
            old, new, outcome = certificate.get("incumbent"), certificate["threshold"], certificate["outcome"]
            if old is None and new is not None:
                lines.append(f"{name} starts at {new:.3f} ({outcome}).")
            elif old is not None and new is None:
                lines.append(f"{name} stops; it was at {old:.3f} ({outcome}).")
            elif old is not None and abs(old - new) > 1e-9:
                lines.append(f"{name} moves from {old:.3f} to {new:.3f} ({outcome}).")
        for line in lines:
            together.setdefault(line, []).append(name_of(category))
    lines = list(comparison.sentences(story["comparison"], [category["name"] for category in story["categories"]]))
    lines += members.contains(story["comparison"], story["fusion"]["incumbent"])
    lines += [capital(f"{listed(names)}: {line}") for line, names in together.items()]
    return lines or ["Nothing to compare with: there is no champion, no model served before, and no thresholds were in force."]


def chart_points(cube: Cube, alpha: float) -> list[dict[str, Any]]:
    """Per category: points of the reliability curve, of the precision-recall curve, and the histograms by label.

    The precision-recall curve runs from the highest score down, in at most MAX_CURVE_POINTS points. The histograms hold the share of each
    label's weight in NUM_STEPS steps of equal width on the logit scale.
    """
    logits = np.linspace(np.log(LOWEST / (1 - LOWEST)), np.log(HIGHEST / (1 - HIGHEST)), NUM_STEPS + 1)
    ends = 1 / (1 + np.exp(-logits))
    step = np.clip(np.searchsorted(ends, centres(), side="right") - 1, 0, NUM_STEPS - 1)
    charts = []
    for neg, pos in dense(cube, ("category", "label", "bin"))[:, :2]:
        num_groups = int(np.clip((pos + neg)[:, 0].sum() // ROWS_PER_DOT, 1, calibration_error.NUM_GROUPS))
        found = calibration_error.reliability(pos[None], neg[None], alpha, num_groups)
        usable = found.num[0] >= MIN_ROWS_OF_DOT
        reliability = {name: getattr(found, name)[0][usable].tolist() for name in ("prob", "rate", "ci_low", "ci_high", "num")}
        weights = {"violation": pos[:, 1], "other": neg[:, 1]}
        true, false = (np.cumsum(side[::-1]) for side in weights.values())
        curve: dict[str, list[float]] = {"recall": [], "precision": []}
        if true[-1] > 0:
            at = np.flatnonzero((weights["violation"] + weights["other"])[::-1] > 0)
            at = at[np.unique(np.linspace(0, len(at) - 1, MAX_CURVE_POINTS).astype(int))]
            curve = {"recall": (true[at] / true[-1]).tolist(), "precision": (true[at] / (true[at] + false[at])).tolist()}
        shares = {name: (np.bincount(step, side, minlength=NUM_STEPS) / (side.sum() or 1.0)).tolist() for name, side in weights.items()}
        charts.append({"reliability": reliability, "precision_recall": curve, "histogram": {"edges": ends.tolist(), **shares}})
    return charts


def pick_examples(
    rows: pd.DataFrame, points: Mapping[str, OperatingPoint], texts: "pd.Series[Any] | None" = None
) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Pick posts that a person should look at: the surest mistakes of each category, by id, with their text only where it was asked for.

    Args:
        rows: item_id, category, language, prob (calibrated, float64 in [0, 1]) and label (0, 1 or null; null rows are left out).
        points: operating points; flagged is what is reviewed or removed.
        texts: text by item_id (str), None where texts are not to be shown.

    Returns:
        {category: {"flagged": harmless posts that were flagged, highest probability first, "missed": violations that were not, lowest
        first}}, MAX_EXAMPLES of each: {item_id, language, prob, text}; text is None where it is not shown or not known.
    """

    def first(mistakes: pd.DataFrame) -> list[dict[str, Any]]:
        """The first mistakes, as the report shows them."""
        shown = mistakes.head(MAX_EXAMPLES)
        known = [None] * len(shown) if texts is None else [texts.get(name) for name in shown.item_id]
        columns = zip(shown.item_id, shown.language.astype(str), shown.prob.astype(float), known, strict=True)
        return [
            {"item_id": name, "language": language, "prob": prob, "text": None if pd.isna(text) else str(text)}
            for name, language, prob, text in columns
        ]

    found = {}
    for category, own in rows[rows.label.notna()].groupby("category", observed=True):
        order = own.assign(item_id=own.item_id.astype(str)).sort_values(["prob", "item_id"], kind="stable")
        flagged = bin_of(order.prob) >= points[str(category)].cuts[0]
        wrong, missed = order[(order.label == 0) & flagged], order[(order.label == 1) & ~flagged]
        found[str(category)] = {"flagged": first(wrong.iloc[::-1]), "missed": first(missed)}
    return found


def read_features(path: Path) -> dict[str, Any]:
    """Read what the stage `snapshot` wrote of features.

    Args:
        path: JSON with coverage and drift, one entry a feature, language (and week).

    Returns:
        coverage: one entry a feature, all languages together, with `least`, its entry of the language that has it least often (None
        where no language has MIN_POSTS posts); drift: the latest week's entries, `all` first; moved: languages that have moved.

    Raises:
        BadUse: the file is missing or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        coverage = []
        for pooled in (row for row in content["coverage"] if row["language"] == ALL):
            rows = [row for row in content["coverage"] if row["feature"] == pooled["feature"] and row["language"] != ALL]
            least = min((row for row in rows if row["posts"] >= MIN_POSTS), key=lambda row: (row["share"], row["language"]), default=None)
            coverage.append(pooled | {"least": least if least is not None and least["share"] < pooled["share"] else None})
        latest = max((row["period"] for row in content["drift"]), default=None)
        drift = sorted(
            (row for row in content["drift"] if row["period"] == latest), key=lambda row: (row["language"] != ALL, row["language"])
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadUse(f"{path}: not readable as features' coverage and drift ({error}); the stage snapshot writes it") from error
    return {"coverage": coverage, "drift": drift, "moved": [row["language"] for row in drift if row["verdict"] == "moved"]}
