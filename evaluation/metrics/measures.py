"""What an evaluation and a week measure alike: operating points, and every metric of every cube in one table."""

from collections.abc import Mapping

import pandas as pd

from upheld.common.params import params
from upheld.evaluation.cube.cube import Cube
from upheld.evaluation.metrics import table
from upheld.evaluation.metrics.rows import Settings
from upheld.evaluation.thresholds.operating_point import OperatingPoint, operating_point
from upheld.feature_store.decisions.thresholds import Thresholds


def limits_of(settings: params.Params) -> Settings:
    """Error of intervals, tolerated gaps and the seed, out of the params."""
    section = settings.fairness
    return Settings(section.alpha, section.tau_gap, section.tau_ratio, section.level, settings.seed)


def operating_points(cube: Cube, thresholds: Thresholds | None, settings: params.Params) -> dict[str, OperatingPoint]:
    """The operating point of every category of a cube, from thresholds.json or None."""
    default = settings.thresholds.default_score
    return {category: operating_point(thresholds, category, cube.languages, default) for category in cube.categories}


def measure(
    cubes: Mapping[str | None, Cube], points: Mapping[str, OperatingPoint], settings: params.Params, changes: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Everything in one long table; the languages that params expect are there even without a row.

    Args:
        cubes: by language under None, by group under the group's name.
        points: operating points.
        settings: all params.
        changes: paired comparison with the champion, where there is one.
    """
    parts = [table.compute(cube, points, limits_of(settings)) for cube in cubes.values()]
    absent = sorted(set(settings.fairness.expected_languages) - set(cubes[None].languages))
    parts += [table.empty_cells(list(cubes[None].categories), absent)] if absent else []
    parts += [changes] if changes is not None else []
    return table.tidy(pd.concat(parts, ignore_index=True))
