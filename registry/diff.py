"""What changed between two versions of the model: parameters, data, code, metrics, gate, thresholds."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from upheld.common.command import STORE_FOLDER, Output, StoreFolder, command
from upheld.common.params.params import flatten
from upheld.common.terminal import console
from upheld.feature_store.decisions.thresholds import BOUNDED, Thresholds
from upheld.registry.tracking import mlflow_store
from upheld.registry.tracking.mlflow_store import Registry, Version

Change = dict[str, Any]


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
    return {section: _changes(sides[0][section], sides[1][section]) for section in sides[0]}


def _facts(registry: Registry, version: Version) -> dict[str, Mapping[str, Any]]:
    params, metrics = mlflow_store.run_data(registry, version.run_id)
    manifest = _artifact(registry, version, "manifest.json")
    thresholds = Thresholds.read(mlflow_store.thresholds_path(registry, version))
    return {
        "lineage": dict(version.tags),
        "data": flatten(manifest.get("counts", {})),
        "params": params,
        "thresholds": {
            f"{category}.{action}": thresholds.threshold(category, action) for category in thresholds.categories for action in BOUNDED
        },
        "metrics": metrics,
    }


def _artifact(registry: Registry, version: Version, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(mlflow_store.run_artifact(registry, version.run_id, name).read_text(encoding="utf-8"))
    return content


def _changes(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Change]:
    keys = sorted(first.keys() | second.keys())
    return [{"key": key, "first": first.get(key), "second": second.get(key)} for key in keys if first.get(key) != second.get(key)]


def _show(changes: Mapping[str, list[Change]], first: str, second: str) -> None:
    out = console(stderr=False)
    for section, rows in changes.items():
        table = Table("key", first, second, title=f"{section}: {len(rows)} changed", title_justify="left", title_style="bold")
        for row in rows:
            table.add_row(*(_text(row[column]) for column in ("key", "first", "second")))
        out.print(table if rows else f"{section}: no change")


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
    return Output(changes, lambda: _show(changes, first, second))


if __name__ == "__main__":
    sys.exit(main())
