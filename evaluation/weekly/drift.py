"""Drift from week to week: the statistics of every cell, carried in state.json so that a re-run gives the same."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from upheld.common.arrays import Floats
from upheld.common.errors import BadUse
from upheld.common.params import params
from upheld.common.params.evaluation import Drift
from upheld.evaluation.cube.bins import NUM_BINS
from upheld.evaluation.cube.cube import LABELS, Cube, Moment, cut, dense, one_category
from upheld.evaluation.statistics import drift
from upheld.evaluation.thresholds.operating_point import OperatingPoint

FORMAT = 1
REMOVED = 2  # interval of cube.cut
SHOWN = ("precision_auto_remove", "recall", "roc_auc")  # carried along for the charts over weeks
COUNTS = ("errors", "removals", "violations", "expected", "labels")
OTHER, VIOLATION = LABELS.index("0"), LABELS.index("1")
Entry = dict[str, Any]


def load(path: Path | None, week: str) -> list[Entry]:
    """Entries of the weeks before `week`, in order; a report of the same or a later week leaves no trace, so that a re-run gives the same.

    Raises:
        BadUse: the file is missing or no state of this format.
    """
    if path is None:
        return []
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise BadUse(f"{path}: format {content['format']!r}, expected {FORMAT}; leave --state out to begin anew")
        return [entry for entry in content["entries"] if entry["week"] < week]
    except OSError as error:
        raise BadUse(f"{path}: cannot be read ({error.strerror}); expected the state.json of an earlier weekly report") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadUse(f"{path}: is not the state.json of a weekly report; leave --state out to begin anew") from error


def advance(
    before: Sequence[Entry],
    week: str,
    model: str,
    cube: Cube,
    points: Mapping[str, OperatingPoint],
    table: pd.DataFrame,
    settings: params.Params,
) -> Entry:
    """This week's entry of one model.

    Args:
        before: entries of earlier weeks; the last of the same model is carried on, a new model starts from nothing.
        week: ISO week.
        model: model version.
        cube: the week's labels by language.
        points: thresholds in force.
        table: the week's metrics, of which SHOWN are kept.
        settings: thresholds.precision_target and drift.

    Returns:
        {week, model_version, basis, metrics: {category: {name: {value, ci_low, ci_high, n}}}, cells: [{category, language, precision,
        calibration (statistics of every alternative), errors, removals, violations, expected, labels}]}.

    Raises:
        BadUse: the params of drift are not those with which the earlier entry was made, or allow no test.
    """
    null_rate = 1 - settings.thresholds.precision_target
    if min(settings.drift.error_rates) <= null_rate:
        raise BadUse(f"params drift.error_rates: every rate must exceed 1 - thresholds.precision_target = {null_rate:.3g}")
    basis = [null_rate, *settings.drift.error_rates, *settings.drift.tilts]
    last = next((entry for entry in reversed(before) if entry["model_version"] == model), None)
    if last is not None and last["basis"] != basis:
        raise BadUse("--state: was made with other params.drift or another precision target; leave it out to begin anew")
    known = {} if last is None else {(cell["category"], cell["language"]): cell for cell in last["cells"]}
    # Of each category and language: (wrong and all labelled removals), and labelled violations and others per score bin.
    fresh: dict[tuple[str, str], tuple[Floats, Floats, Floats]] = {}
    for category in cube.categories:
        own, point = one_category(cube, category), points[category]
        removed = cut(own, [point.cuts], ("language", "label"))[:, :, REMOVED, Moment.N]
        bins = dense(own, ("language", "label", "bin"))[..., Moment.N]
        for place, language in enumerate(own.languages):
            wrong, right = (0.0, 0.0) if language in point.languages_off else removed[place, [OTHER, VIOLATION]]
            fresh[category, language] = (np.array([wrong, wrong + right]), bins[place, VIOLATION], bins[place, OTHER])
    cells = []
    for key in sorted({*known, *(key for key, (_, found, other) in fresh.items() if (found + other).sum() or key in known)}):
        cells.append(_carry(key, known.get(key), fresh.get(key), null_rate, settings.drift))
    metrics = {category: {name: pooled(table, category, name) for name in SHOWN} for category in cube.categories}
    return {"week": week, "model_version": model, "basis": basis, "metrics": metrics, "cells": cells}


def alarms(entry: Entry, before: Sequence[Entry], section: Drift) -> dict[str, Any]:
    """The cells of an entry, each statistic as a share of the level of alarm.

    Args:
        entry: of the week.
        before: entries of earlier weeks.

    Returns:
        {"level", "since", "cells": [{category, language, kind, share, alarm, and COUNTS summed since the model began}]}, the largest share
        first. The level counts both statistics of every cell, so that all together raise at most `false_alarms_per_year`.
    """
    past = [*(one for one in before if one["model_version"] == entry["model_version"]), entry]
    level = drift.alarm_threshold(2 * max(len(entry["cells"]), 1), section.false_alarms_per_year)
    counts = pd.DataFrame([cell for one in past for cell in one["cells"]], columns=["category", "language", *COUNTS])
    total = counts.groupby(["category", "language"]).sum()
    rows = []
    for cell in entry["cells"]:
        key = (cell["category"], cell["language"])
        summed = {name: round(float(total.loc[key, name]), 1 if name == "expected" else None) for name in COUNTS}
        for kind in ("precision", "calibration"):
            share = float(drift.statistic(cell[kind])) / level
            rows.append({"category": key[0], "language": key[1], "kind": kind, "share": share, "alarm": share >= 1, **summed})
    return {"level": level, "since": past[0]["week"], "cells": sorted(rows, key=lambda row: -row["share"])}


def _carry(
    key: tuple[str, str], last: Entry | None, fresh: tuple[Floats, Floats, Floats] | None, null_rate: float, section: Drift
) -> Entry:
    """One cell a week on; a week without labels says nothing, which the statistic counts as a week nevertheless."""
    nothing = np.zeros(NUM_BINS)
    (errors, removals), violations, others = fresh or (np.zeros(2), nothing, nothing)
    state = last or {"precision": np.zeros(len(section.error_rates)), "calibration": np.zeros(len(section.tilts))}
    precision = drift.update(state["precision"], drift.precision_log_ratios(errors, removals, null_rate, section.error_rates))
    calibration = drift.update(state["calibration"], drift.tilt_log_ratios(violations, others, section.tilts))
    return {
        "category": key[0],
        "language": key[1],
        "precision": precision.tolist(),
        "calibration": calibration.tolist(),
        "errors": int(errors),
        "removals": int(removals),
        "violations": int(violations.sum()),
        "expected": round(float(drift.expected_violations(violations, others)), 1),
        "labels": int(violations.sum() + others.sum()),
    }


def pooled(table: pd.DataFrame, category: str, name: str) -> Entry | None:
    """The pooled value of a metric with its interval, or None where it is undefined."""
    row = table[(table.category == category) & (table.language == "all") & (table.group_column == "all") & (table.metric == name)]
    if row.empty or pd.isna(row.value.iloc[0]):
        return None
    numbers = row.iloc[0][["value", "ci_low", "ci_high", "n"]]
    return {str(key): None if pd.isna(number) else float(number) for key, number in numbers.items()}
