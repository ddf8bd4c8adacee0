"""Every metric of every cell, in long form: one row per category x language (or group value) and metric."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
import pandas as pd

from upheld.common.params.params import Params
from upheld.evaluation.cube.cube import Cube, cut, cut_max_weight, dense, one_category
from upheld.evaluation.metrics.rates import Counts
from upheld.evaluation.metrics.rows import ALL, CELL, COLUMNS, Settings, describe
from upheld.evaluation.thresholds.operating_point import OperatingPoint, operating_point
from upheld.feature_store.decisions.thresholds import Thresholds


def compute(cube: Cube, points: Mapping[str, OperatingPoint], settings: Settings) -> pd.DataFrame:
    """All metrics of a cube.

    Args:
        cube: calibrated scores; split by its group column where it has one, else by language.
        points: the operating point of every category of the cube.

    Returns:
        a table with the columns of metrics.parquet. Split by language it also holds the pooled cells (`language` = all); split by a group
        column it holds one cell per category and group value, languages pooled. What is undefined is null, with a reason.
    """
    axis: Literal["language", "group"] = "language" if cube.group_column is None else "group"
    parts = []
    for category in cube.categories:
        own, point = one_category(cube, category), points[category]
        names = own.languages if axis == "language" else own.groups
        by_bin = dense(own, (axis, "label", "bin"))[:, :2]
        full = cut(own, [point.cuts], ("language", "group", "label"))
        off = np.array([name in point.languages_off for name in own.languages])
        over = 1 if axis == "language" else 0
        by_action, removable = full.sum(over), np.where(off[:, None, None, None, None], 0.0, full).sum(over)
        if axis == "language":  # its slices are followed by the pooled one
            names = (*names, ALL)
            by_bin, by_action, removable = (np.concatenate([part, part.sum(0, keepdims=True)]) for part in (by_bin, by_action, removable))
        counts = Counts(names, axis == "language", by_bin, by_action, removable, cut_max_weight(own, [point.cuts])[0])
        parts.append(describe(counts, point, settings).assign(category=category))
    table = pd.concat(parts, ignore_index=True)
    pooled = pd.Series(ALL, index=table.index)
    slices = table.pop("slice")
    table["language"] = slices if axis == "language" else pooled
    table["group_column"] = pooled if axis == "language" else cube.group_column
    table["group_value"] = pooled if axis == "language" else slices
    return table[COLUMNS]


def empty_cells(categories: list[str], languages: list[str]) -> pd.DataFrame:
    """Cells that were expected and have no row: shown as missing evidence, never left out."""
    rows = [(category, language, ALL, ALL, "rows", 0.0, None, None, 0, 0.0, "INSUFFICIENT", None, "expected, and without a row")
            for category in categories for language in languages]  # fmt: skip
    return pd.DataFrame(rows, columns=COLUMNS)


def tidy(table: pd.DataFrame) -> pd.DataFrame:
    """Give metrics.parquet its column types: numbers as float64 or whole numbers, texts as strings; missing is null everywhere.

    An end that the evidence leaves open (a ratio to a rate that may be 0) is null too, beside the other end.
    """
    numbers = {name: table[name].astype("float64").replace([np.inf, -np.inf], np.nan) for name in ("value", "ci_low", "ci_high", "n_eff")}
    texts = {name: table[name].astype("str") for name in (*CELL, "verdict", "reason")}
    return table.assign(
        **numbers, **texts, n=table.n.round().astype("int64"), need_n=table.need_n.astype("float64").round().astype("Int64")
    )


def limits_of(settings: Params) -> Settings:
    """Error of intervals, tolerated gaps and the seed, out of the params."""
    section = settings.fairness
    return Settings(section.alpha, section.tau_gap, section.tau_ratio, section.level, settings.seed)


def operating_points(cube: Cube, thresholds: Thresholds | None, settings: Params) -> dict[str, OperatingPoint]:
    """The operating point of every category of a cube, from thresholds.json or None."""
    default = settings.thresholds.default_score
    return {category: operating_point(thresholds, category, cube.languages, default) for category in cube.categories}


def measure(
    cubes: Mapping[str | None, Cube], points: Mapping[str, OperatingPoint], settings: Params, changes: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Everything in one long table; the languages that params expect are there even without a row.

    Args:
        cubes: by language under None, by group under the group's name.
        points: operating points.
        changes: paired comparison with the champion, where there is one.
    """
    parts = [compute(cube, points, limits_of(settings)) for cube in cubes.values()]
    absent = sorted(set(settings.fairness.expected_languages) - set(cubes[None].languages))
    parts += [empty_cells(list(cubes[None].categories), absent)] if absent else []
    parts += [changes] if changes is not None else []
    return tidy(pd.concat(parts, ignore_index=True))
