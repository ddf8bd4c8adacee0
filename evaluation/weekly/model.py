"""What one model that served in a week did, counted from its decisions, and the thresholds that the labels support."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from upheld.common import files
from upheld.common.params import params
from upheld.evaluation.cube.cube import Cube
from upheld.evaluation.metrics.table import measure, operating_points
from upheld.evaluation.scores import selection as score_rows
from upheld.evaluation.scores.table import Columns
from upheld.evaluation.thresholds import both_thresholds
from upheld.evaluation.thresholds.operating_point import OperatingPoint
from upheld.evaluation.weekly import drift
from upheld.evaluation.weekly import scores as week_scores
from upheld.feature_store.contracts import hashing
from upheld.feature_store.decisions.thresholds import Thresholds

FORMAT = 1


@dataclass(frozen=True)
class Served:
    """One model's week: its score table counted, its thresholds in force, its metrics, and the thresholds proposed."""

    model: str
    rows: pd.DataFrame
    cubes: Mapping[str | None, Cube]
    facts: score_rows.Facts
    in_force: Thresholds
    now: dict[str, OperatingPoint]
    metrics: pd.DataFrame
    proposed: Thresholds


def folder_name(model: str) -> str:
    """A model version as the name of a folder: what a path would act on is replaced, and a digest keeps two such names apart."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", model)[:80].lstrip(".")
    return plain if plain == model else f"{plain}-{hashing.of_bytes(model.encode())[:8]}"


def in_order(decisions: pd.DataFrame) -> list[str]:
    """Model versions in the order in which they began to serve."""
    return [str(name) for name in decisions.groupby("model_version").decided_at.min().sort_values(kind="stable").index]


def serve(
    settings: params.Params, week: str, model: str, rows: pd.DataFrame, folder: Path, given: Thresholds | None, groups: Sequence[str]
) -> Served:
    """Count one model's week and decide on its thresholds. The scores are what it acted on: probabilities, taken as they are.

    Args:
        week: ISO week.
        model: its version.
        rows: its part of the week's score table (week_scores.build).
        folder: gets scores.parquet.
        given: the thresholds in force, or None to read them off the actions.
        groups: further columns to split by.

    Raises:
        BadUse: a row breaks the scores contract.
    """
    files.write_parquet(folder / "scores.parquet", rows[week_scores.COLUMNS])
    selection = score_rows.select(folder / "scores.parquet", Columns(), groups, wanted="test", other="calib")
    cubes, facts = score_rows.build_cubes(selection, groups, None, settings.thresholds.frame_min_inclusion_prob)
    in_force = given or week_scores.shown_thresholds(rows)
    points = operating_points(cubes[None], in_force, settings)
    proposed = Thresholds.parse(
        {
            "format": FORMAT,
            "synthetic": facts.synthetic,
            "data_digest": facts.digest,
            "seed": settings.seed,
            "week": week,
            "model_version": model,
            "num_labels": facts.num_labelled,
            "unknown_language": settings.thresholds.unknown_language,
            "categories": both_thresholds.decide(cubes[None], settings.thresholds, incumbent=in_force, seed=settings.seed),
        }
    )
    return Served(model, rows, cubes, facts, in_force, points, measure(cubes, points, settings), proposed)


def measure_again(settings: params.Params, one: Served, rows: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """A model's metrics by other labels of the same decisions, at the same thresholds.

    Args:
        rows: the score table with those labels.
        folder: gets without_accused.parquet.
    """
    path = folder / "without_accused.parquet"
    files.write_parquet(path, rows[week_scores.COLUMNS])
    selection = score_rows.select(path, Columns(), (), wanted="test", other="calib")
    cubes, _ = score_rows.build_cubes(selection, (), None, settings.thresholds.frame_min_inclusion_prob)
    return measure(cubes, one.now, settings)


def column(one: Served) -> dict[str, Any]:
    """A model's column in the comparison of all that served."""
    figures = {
        category: {name: drift.pooled(one.metrics, category, name) for name in drift.SHOWN} for category in one.cubes[None].categories
    }
    actions = one.rows.groupby("category").action.value_counts().unstack(fill_value=0)
    volumes = {str(name): {str(action): int(num) for action, num in row.items()} for name, row in actions.iterrows()}
    return {
        "model_version": one.model,
        "decisions": len(one.rows),
        "labelled": one.facts.num_labelled,
        "actions": volumes,
        "metrics": figures,
    }
