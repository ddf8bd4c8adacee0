"""Register what a retrain made: one MLflow run, one model version, one version of its thresholds, alias `challenger`.

usage: python -m upheld.registry.runs.register --workspace store/runs/RUN --store store --result result.json
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from upheld.common.command import STORE_FOLDER, StoreFolder, command
from upheld.common.errors import FailedWork
from upheld.common.files import write_json
from upheld.common.params.params import flatten
from upheld.evaluation.report.render import FIRST_SCREEN
from upheld.feature_store.contracts import hashing
from upheld.feature_store.contracts import workspace as paths
from upheld.feature_store.contracts.snapshot import MANIFEST_FILE, read_manifest
from upheld.registry.tracking import mlflow_store
from upheld.registry.tracking.mlflow_store import Registry, Version

ALIAS = "challenger"
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
    if known and thresholds:
        model, status = known, "unchanged"
    else:
        model, thresholds = _register(registry, workspace, store, lock_digest)
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


def _register(registry: Registry, workspace: Path, store: Path, lock_digest: str) -> tuple[Version, Version]:
    """Everything is logged before the first version exists, so that no version lacks its evidence."""
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
            **{f"upheld.{key}": str(value) for key, value in _read(workspace / "run.json").items()},
            **({mlflow_store.INCUMBENT: str(incumbent)} if incumbent else {}),
            "upheld.bundle_sha256": hashing.of_folder(bundle),
        }
        with mlflow_store.recorded_run(registry, workspace.name, tags) as run_id:
            files = [(workspace / name, folder) for name, folder in EVIDENCE]
            params = flatten(yaml.safe_load((workspace / "params.yaml").read_text(encoding="utf-8")))
            mlflow_store.log_facts(registry, run_id, params, _read(workspace / paths.HEADLINES), files)
            mlflow_store.log_curves(registry, run_id, curves(workspace))
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
            airflow = _read(workspace / "run.json").get("airflow_page")
            text = (f"[The run in Airflow]({airflow})\n\n" if airflow else "") + screen
            mlflow_store.describe(registry, run_id, (model, thresholds), text)
    return model, thresholds


def curves(workspace: Path) -> dict[str, list[tuple[int, float]]]:
    """What each network's epochs came to: `{network}/{figure}`, of a policy `{network}/roc_auc/{policy}`, as pairs of epoch and value.

    A head that was fitted without epochs has one point, at 0; figures that val has too few labels for stay out.
    """
    found: dict[str, list[tuple[int, float]]] = {}
    for folder in (paths.TEXT_MODEL, paths.IMAGE_MODEL, paths.AUDIO_MODEL, paths.LOGO_MODEL):
        for epoch in _read(workspace / folder / "metadata.json").get("history", []):
            areas = {f"roc_auc/{policy}": area for policy, area in epoch.get("roc_auc", {}).items()}
            values = {"train_loss": epoch.get("train_loss"), "val_loss": epoch.get("loss"), "map_50": epoch.get("map_50"), **areas}
            for name, value in values.items():
                if value is not None:
                    found.setdefault(f"{folder.name}/{name}", []).append((epoch["epoch"], float(value)))
    return found


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
