"""What changed between two versions of the model: parameters, data, code, metrics, gate, thresholds."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from upheld.common.command import STORE_FOLDER, Output, StoreFolder, command
from upheld.common.params.params import flatten
from upheld.common.terminal import console
from upheld.feature_store.decisions.thresholds import BOUNDED, Thresholds
from upheld.registry.tracking import figures, mlflow_store
from upheld.registry.tracking.mlflow_store import Registry, Version

Change = dict[str, Any]
EVALUATIONS = ("evaluation", "logo_evaluation")  # folders of a run's artifacts


def run(store: Path, first: str, second: str) -> dict[str, list[Change]]:
    """Compare two registered versions.

    Args:
        store: folder with the registry.
        first, second: version numbers or aliases of `upheld-moderation`.

    Returns:
        section (lineage, data, params, thresholds, metrics) -> [{"key", "first", "second"}], only where the two differ;
        a value that one side lacks is null.

    Raises:
        BadUse: no such version.
    """
    registry = mlflow_store.connect(store, create=False)
    sides = [_facts(registry, mlflow_store.resolve(registry, mlflow_store.MODEL, reference)) for reference in (first, second)]
    changes: dict[str, list[Change]] = {}
    for section, first_side in sides[0].items():
        second_side = sides[1][section]
        pairs = [(key, first_side.get(key), second_side.get(key)) for key in sorted(first_side.keys() | second_side.keys())]
        changes[section] = [{"key": key, "first": one, "second": other} for key, one, other in pairs if one != other]
    return changes


def _facts(registry: Registry, version: Version) -> dict[str, Mapping[str, Any]]:
    tables = [mlflow_store.run_artifact(registry, version.run_id, f"{folder}/metrics.parquet") for folder in EVALUATIONS]
    manifest = json.loads(mlflow_store.run_artifact(registry, version.run_id, "manifest.json").read_text(encoding="utf-8"))
    thresholds = Thresholds.read(mlflow_store.thresholds_path(registry, version))
    return {
        "lineage": dict(version.tags),
        "data": flatten(manifest.get("counts", {})),
        "params": mlflow_store.run_params(registry, version.run_id),
        "thresholds": {
            f"{category}.{action}": thresholds.threshold(category, action) for category in thresholds.categories for action in BOUNDED
        },
        "metrics": {name: value for table in tables for name, value in figures.cells(table).items()},
    }


def _text(value: Any) -> str:
    return "–" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)


@command("diff")
def main(
    first: Annotated[str, typer.Argument(help="Version number or alias.")],
    second: Annotated[str, typer.Argument(help="Version number or alias.")],
    store: StoreFolder = STORE_FOLDER,
) -> Output:
    """What changed between two versions of the model."""
    changes = run(store, first, second)

    def show() -> None:
        """Print a table a section, or that nothing changed in it."""
        out = console(stderr=False)
        for section, rows in changes.items():
            table = Table("key", first, second, title=f"{section}: {len(rows)} changed", title_justify="left", title_style="bold")
            for row in rows:
                table.add_row(*(_text(row[column]) for column in ("key", "first", "second")))
            out.print(table if rows else f"{section}: no change")

    return Output(changes, show)
