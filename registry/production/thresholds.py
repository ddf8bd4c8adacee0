"""Register thresholds.json as a version of `upheld-thresholds`, pinned to one model; nothing goes into production by it.

usage: python -m upheld.registry.production.thresholds --thresholds D/thresholds.json --model champion --report D --origin "weekly 2026-W43"
"""

import json
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from upheld.common.command import STORE_FOLDER, Output, StoreFolder, command
from upheld.common.errors import BadUse
from upheld.evaluation.report.render import FIRST_SCREEN
from upheld.feature_store.contracts import hashing
from upheld.feature_store.decisions.thresholds import Thresholds
from upheld.registry.approvals import verified
from upheld.registry.tracking import mlflow_store
from upheld.registry.tracking.mlflow_store import Registry, Version

REPORT = ("report.html", "report.md")  # without which nobody could approve


def run(path: Path, model: str, report: Path, origin: str, store: Path) -> dict[str, Any]:
    """Register the thresholds; the same content for the same model is found, not registered twice.

    Args:
        path: thresholds.json, its certificates in it.
        model: version or alias of the model whose probabilities it is about.
        report: folder with report.html and report.md; first_screen.md, report.json, metrics.parquet and gate.json go along where they are.
        origin: what they come from, in words.
        store: folder with the registry.

    Returns:
        {"status": "registered" or "unchanged", "model", "thresholds", "gate"}.

    Raises:
        BadUse: the file is no thresholds.json, is about other categories or another calibration than the model, or the
            report is missing.
    """
    content = Thresholds.read(path)
    missing = [name for name in REPORT if not (report / name).is_file()]
    if missing:
        raise BadUse(f"{report}: {missing[0]} is missing; whoever approves needs the report")
    registry = mlflow_store.connect(store, create=False)
    pinned_to = mlflow_store.resolve(registry, mlflow_store.MODEL, model)
    # Thresholds are found on the model's own probabilities, or under the calibration that it carries.
    versions = mlflow_store.versions(registry, mlflow_store.THRESHOLDS)
    born = next((item for item in versions if item.run_id == pinned_to.run_id), None)
    if born is None:
        raise BadUse(f"{pinned_to.label}: it was registered without thresholds, so their scale is unknown; retrain")
    own = Thresholds.read(verified.thresholds(store, registry, born))
    if content.categories.keys() != own.categories.keys():
        raise BadUse(f"{path}: key categories: expected {sorted(own.categories)}, found {sorted(content.categories)}")
    if content.calibration_digest is not None and content.calibration_digest != own.calibration_digest:
        other = f"another calibration than {pinned_to.label} applies; choose them on the model's own scores"
        raise BadUse(f"{path}: key calibration_digest: {other}")
    gate = report / "gate.json"
    held = content.unproven() or (gate.is_file() and json.loads(gate.read_text(encoding="utf-8"))["decision"] != "promote")
    tags = {
        "upheld.model_version": pinned_to.label,
        "upheld.thresholds_sha256": hashing.of_file(path),
        "upheld.gate": "hold" if held else "promote",
        "upheld.synthetic": str(content.synthetic).lower(),
        "upheld.origin": origin,
    }
    same = ("upheld.model_version", "upheld.thresholds_sha256")
    known = next((item for item in versions if all(item.tags.get(key) == tags[key] for key in same)), None)
    version = known or _register(registry, path, report, tags)
    return {
        "status": "unchanged" if known else "registered",
        "model": pinned_to.label,
        "thresholds": version.label,
        "gate": version.tags["upheld.gate"],
    }


def _register(registry: Registry, path: Path, report: Path, tags: Mapping[str, str]) -> Version:
    """The evidence first, laid out as a retrain's, so that no version lacks it."""
    optional = (FIRST_SCREEN, "report.json", "metrics.parquet", "gate.json")
    evidence = [report / name for name in (*REPORT, *optional) if (report / name).is_file()]
    name = f"thresholds {tags['upheld.origin']}"
    with tempfile.TemporaryDirectory() as scratch, mlflow_store.recorded_run(registry, name, tags) as run_id:
        certified = shutil.copyfile(path, Path(scratch) / "thresholds.json")
        files = [(certified, "calibration"), *((file, "evaluation") for file in evidence)]
        mlflow_store.log_facts(registry, run_id, {}, files)
        version = mlflow_store.register_thresholds(registry, run_id, tags)
        if (report / FIRST_SCREEN).is_file():
            mlflow_store.describe(registry, run_id, [version], (report / FIRST_SCREEN).read_text(encoding="utf-8"))
    return version


@command("thresholds")
def main(
    path: Annotated[Path, typer.Option("--thresholds", help="thresholds.json to register.")],
    model: Annotated[str, typer.Option(help="Version or alias that they belong to.")],
    report: Annotated[Path, typer.Option(help="Folder with report.html and report.md.")],
    origin: Annotated[str, typer.Option(help="What they come from.")],
    result: Annotated[Path | None, typer.Option(help="JSON to write with what was registered.")] = None,
    store: StoreFolder = STORE_FOLDER,
) -> Output:
    """Register thresholds for a model."""
    registered = run(path, model, report, origin, store)
    return Output(registered, f"{registered['status']}: {registered['thresholds']} for {registered['model']}", result=result)


if __name__ == "__main__":
    sys.exit(main())
