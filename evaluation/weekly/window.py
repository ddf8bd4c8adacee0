"""Thresholds over a rolling window of weeks: one week has too few labels of missed violations, and mostly too few of removals.

See docs/statistics.md, Removal threshold. Weeks are pooled only where they speak of the same model, and only while no drift alarm stands:
of falling weeks the earlier ones would certify what no longer holds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from upheld.common.params import params
from upheld.common.params.evaluation import Thresholds as Section
from upheld.evaluation.cube import build, cube
from upheld.evaluation.thresholds import both_thresholds
from upheld.evaluation.weekly import drift
from upheld.evaluation.weekly.drift import Entry
from upheld.evaluation.weekly.model import Served
from upheld.feature_store.decisions.thresholds import Category, Thresholds

KEY = ["item_id", "category"]
COUNTED = ["category", "language", "score", "label", "inclusion_prob", "zone"]
ReadRows = Callable[[str], pd.DataFrame]


@dataclass(frozen=True)
class Window:
    """Weeks whose labels count in one category, oldest first, and why there are no more (None where the window is full)."""

    weeks: tuple[str, ...]
    reason: str | None


def choose(category: str, entry: Entry, before: Sequence[Entry], settings: params.Params) -> Window:
    """The weeks to pool, which no label decides except through an alarm.

    Args:
        category: its alarms count, in any language.
        entry: drift of this week and model.
        before: entries of earlier weeks, in order.
        settings: thresholds.window_weeks and drift.

    Returns:
        this week and the earlier weeks of the same model back to the last one in which an alarm stood, that one left out.
    """
    own = [one for one in before if one["model_version"] == entry["model_version"]]
    if _alarmed(category, entry, settings):
        return Window((entry["week"],), "a drift alarm stands: earlier weeks may certify what no longer holds")
    weeks, reason = [entry["week"]], "no earlier week of this model is known" if not own else "the model has not served longer"
    for past in reversed(own):
        if len(weeks) == settings.thresholds.window_weeks:
            break
        if _alarmed(category, past, settings):
            reason = f"a drift alarm stood in {past['week']}"
            break
        weeks.append(past["week"])
    full = len(weeks) == settings.thresholds.window_weeks
    return Window(tuple(reversed(weeks)), None if full else reason)


def pooled(one: Served, entry: Entry, before: Sequence[Entry], read_rows: ReadRows, settings: params.Params) -> Served:
    """The same model's week with both thresholds decided on each category's window.

    Args:
        before: entries of earlier weeks.
        read_rows: week -> score table of all models of that week, with what is known of its labels by now; no row where it is gone.

    Returns:
        `one` with thresholds for each category that name their `weeks` and why there are no more (`window_reason`).
    """
    windows = {category: choose(category, entry, before, settings) for category in one.cubes[None].categories}
    earlier = {week for window in windows.values() for week in window.weeks} - {entry["week"]}
    cubes, seen = {entry["week"]: one.cubes[None]}, _labelled(one.rows)
    for week in sorted(earlier, reverse=True):  # a label counts once, in the latest week that its post was scored in
        rows = read_rows(week)
        rows = rows[rows.model_version == one.model]
        if rows.empty:
            continue
        again = pd.MultiIndex.from_frame(rows[KEY]).isin(seen)
        rows = rows.assign(label=rows.label.where(~again))
        seen = seen.union(_labelled(rows))
        table = pa.Table.from_pandas(rows[COUNTED], preserve_index=False)
        cubes[week] = build.build(table, frame_min_inclusion_prob=settings.thresholds.frame_min_inclusion_prob)
    categories = {}
    for category, window in windows.items():
        there = [week for week in window.weeks if week in cubes and category in cubes[week].categories]
        whole = cube.merge([cube.one_category(cubes[week], category) for week in there])
        decided = both_thresholds.decide(whole, settings.thresholds, incumbent=one.in_force, seed=settings.seed)[category]
        of_window = {"weeks": there, "window_reason": window.reason}
        categories[category] = Category.model_validate({action: {**entry, **of_window} for action, entry in decided.items()})
    return replace(one, proposed=one.proposed.model_copy(update={"categories": categories}))


def describe(proposed: Thresholds, section: Section) -> list[dict[str, Any]]:
    """What the report says of recall: per category the weeks, the bound, the target, and the labels that are missing."""
    described = []
    for name, category in proposed.categories.items():
        names = ("weeks", "window_reason", "threshold", "outcome", "bound", "target", "n", "need_n", "need_threshold", "reason")
        described.append({"category": name, "full": section.window_weeks, **{key: getattr(category.review, key) for key in names}})
    return described


def _alarmed(category: str, entry: Entry, settings: params.Params) -> bool:
    cells = drift.alarms(entry, [], settings.drift)["cells"]
    return any(cell["alarm"] for cell in cells if cell["category"] == category)


def _labelled(rows: pd.DataFrame) -> pd.MultiIndex:
    return pd.MultiIndex.from_frame(rows.loc[np.asarray(rows.label.notna()), KEY])
