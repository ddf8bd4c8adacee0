"""Register what a retrain made: its MLflow run finished, one model version, one version of its thresholds, alias `challenger`.

usage: python -m upheld.registry.runs.register --workspace store/runs/RUN --store store --result result.json
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from upheld.common.command import STORE_FOLDER, StoreFolder, command
from upheld.common.errors import FailedWork
from upheld.common.files import write_json
from upheld.evaluation.report.render import FIRST_SCREEN
from upheld.feature_store.contracts import hashing
from upheld.feature_store.contracts import workspace as paths
from upheld.feature_store.contracts.snapshot import MANIFEST_FILE, read_manifest
from upheld.registry.runs import curves, live
from upheld.registry.tracking import live_run, mlflow_store
from upheld.registry.tracking.live_run import Point
from upheld.registry.tracking.mlflow_store import Registry, Version

ALIAS = "challenger"
CELLS = "evaluation/cells.json"  # the metrics of every cell, as a table that MLflow shows
EVIDENCE: tuple[tuple[str | Path, str], ...] = (
    ("dvc.lock", ""),
    ("dvc.yaml", ""),
    ("params.yaml", ""),
    ("run.json", ""),
    (paths.INPUTS, ""),
    (paths.SNAPSHOT / MANIFEST_FILE, ""),
    (paths.CALIBRATION, "calibration"),
    (paths.EVALUATION, "evaluation"),
    *((paths.LOGO_EVALUATION / name, "logo_evaluation") for name in ("logo.json", "metrics.parquet", "confusion.parquet")),
)
NEEDED: tuple[str | Path, ...] = (
    *(name for name, _ in EVIDENCE),
    paths.THRESHOLDS,
    paths.GATE,
    paths.METRICS,
    paths.HEADLINES,
    paths.FUSION_ACCOUNT,
    paths.LOGO_DATASET / "dataset.json",
)


def run(workspace: Path, store: Path) -> dict[str, Any]:
    """Register the finished workspace; a second call for the same `dvc.lock` finds what the first one registered.

    Args:
        workspace: folder in which every stage of the graph has run.
        store: folder with the registry.

    Returns:
        {"model", "thresholds", "gate", "run_id", "page", "status"}; page is MLflow's, None where its address is not known; status is
        "registered" or "unchanged".

    Raises:
        FailedWork: a file that lineage needs is missing, or MLflow refuses; the alias does not move then.
    """
    missing = [name for name in NEEDED if not (workspace / name).exists()]
    if missing:
        raise FailedWork(f"{workspace}: {missing[0]} is missing, so this run has no full lineage; run the graph to its end first")
    registry = mlflow_store.connect(store)
    lock_digest = hashing.of_file(workspace / "dvc.lock")
    known = _find(registry, mlflow_store.MODEL, lock_digest)
    thresholds = _find(registry, mlflow_store.THRESHOLDS, lock_digest)
    own = live.of_workspace(registry, workspace)
    if known and thresholds:
        model, status = known, "unchanged"
        if own:
            live_run.end(registry, own, "FINISHED", _same_as(registry, model, workspace) if own != model.run_id else {})
    else:
        model, thresholds = _register(registry, workspace, store, lock_digest, own)
        status = "registered"
    mlflow_store.point_alias(registry, ALIAS, thresholds)
    mlflow_store.point_alias(registry, ALIAS, model)
    return {
        "model": model.label,
        "thresholds": thresholds.label,
        "gate": model.tags["upheld.gate"],
        "run_id": model.run_id,
        "page": mlflow_store.run_page(registry, model.run_id),
        "status": status,
    }


def _register(registry: Registry, workspace: Path, store: Path, lock_digest: str, own: str | None) -> tuple[Version, Version]:
    """Everything is logged before the first version exists, so that no version lacks its evidence.

    It goes into the workspace's `own` run, or into a new one where none was begun.
    """
    from upheld.training.pipeline import bundle as pipeline  # brings Torch, which a run that is registered already does not need

    manifest, logo = read_manifest(workspace / paths.SNAPSHOT), _read(workspace / paths.LOGO_DATASET / "dataset.json")
    incumbent = _read(workspace / paths.FUSION_ACCOUNT)["incumbent"]
    with tempfile.TemporaryDirectory(dir=store) as scratch:
        bundle = pipeline.assemble(workspace, Path(scratch) / "bundle")
        tags = {
            "upheld.dvc_lock_sha256": lock_digest,
            "upheld.snapshot_sha256": manifest["digest"],
            "upheld.logo_dataset_sha256": logo["digest"],
            "upheld.as_of": str(manifest["as_of"]),
            "upheld.gate": _read(workspace / paths.GATE)["decision"],
            "upheld.synthetic": str(bool(manifest["synthetic"])).lower(),
            "upheld.champion": json.dumps(manifest.get("champion")),
            **live.facts(workspace),
            **({mlflow_store.INCUMBENT: str(incumbent)} if incumbent else {}),
            "upheld.bundle_sha256": hashing.of_folder(bundle),
        }
        with mlflow_store.recorded_run(registry, workspace.name, tags, own) as run_id:
            files = [(workspace / name, folder) for name, folder in EVIDENCE]
            mlflow_store.log_facts(registry, run_id, live.read_params(workspace), files)
            mlflow_store.log_table(registry, run_id, pd.read_parquet(workspace / paths.METRICS), CELLS)
            now = int(time.time() * 1000)
            headlines = [Point(name, 0, now, float(value)) for name, value in _read(workspace / paths.HEADLINES).items()]
            live_run.Points(registry, run_id).add([*headlines, *curves.of_workspace(workspace)])
            inputs = _read(workspace / paths.INPUTS)
            for name, about in (("snapshot", manifest), ("logo", logo)):
                mlflow_store.log_dataset(registry, run_id, name, about["digest"], inputs, json.dumps(about.get("counts", {}))[:60000])
            model = mlflow_store.register_bundle(registry, bundle, _read(bundle / pipeline.DESCRIPTION)["policies"], tags)
            pinned = {
                "upheld.model_version": model.label,
                "upheld.thresholds_sha256": hashing.of_file(workspace / paths.THRESHOLDS),
            }
            thresholds = mlflow_store.register_thresholds(registry, run_id, tags | pinned)
            screen = (workspace / paths.EVALUATION / FIRST_SCREEN).read_text(encoding="utf-8")
            mlflow_store.describe(registry, run_id, (model, thresholds), live.in_airflow(workspace) + screen)
    return model, thresholds


def _same_as(registry: Registry, model: Version, workspace: Path) -> dict[str, str]:
    """Tags of a run that made nothing new, which lead to what was there."""
    page = mlflow_store.run_page(registry, model.run_id)
    there = f"[{model.label}]({page})" if page else model.label
    text = f"{live.in_airflow(workspace)}Nothing that this run reads has changed: what it made is {there}, run {model.run_id}."
    return {"upheld.unchanged": model.label, "upheld.unchanged_run": model.run_id, mlflow_store.NOTE: text}


def _find(registry: Registry, name: str, lock_digest: str) -> Version | None:
    tagged = mlflow_store.versions(registry, name)
    return next((version for version in tagged if version.tags.get("upheld.dvc_lock_sha256") == lock_digest), None)


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@command("register")
def main(
    workspace: Annotated[Path, typer.Option(help="Workspace of a finished run.")],
    store: StoreFolder = STORE_FOLDER,
    result: Annotated[Path | None, typer.Option(help="JSON to write with what was registered.")] = None,
) -> None:
    """Register a finished workspace."""
    registered = run(workspace, store)
    if result:
        write_json(result, registered)
    print(json.dumps(registered))


if __name__ == "__main__":
    sys.exit(main())
