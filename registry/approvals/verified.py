"""Files of registered versions, after their digests were checked: of what was approved against the record, of all else against the tag."""

from pathlib import Path

from upheld.common.errors import BadUse, FailedWork
from upheld.feature_store.contracts import hashing
from upheld.registry.approvals import log
from upheld.registry.tracking import mlflow_store
from upheld.registry.tracking.mlflow_store import Registry, Version

TAGS = {mlflow_store.MODEL: "upheld.bundle_sha256", mlflow_store.THRESHOLDS: "upheld.thresholds_sha256"}


def bundle(store: Path, registry: Registry, model: Version) -> Path:
    """Local folder of a model's bundle, as it was registered.

    Raises:
        BadUse: the version carries no digest.
        FailedWork: its files are others.
    """
    folder = mlflow_store.bundle_path(registry, model)
    _compare(store, model, hashing.of_folder(folder), folder)
    return folder


def thresholds(store: Path, registry: Registry, version: Version) -> Path:
    """Local thresholds.json of a thresholds version, as it was registered. Raises as `bundle`."""
    path = mlflow_store.thresholds_path(registry, version)
    _compare(store, version, hashing.of_file(path), path)
    return path


def expected(store: Path, version: Version) -> str | None:
    """The digest that a version's files must have: of the last approval of it on record, else of its tag, which anybody in MLflow may
    change; None where neither says one."""
    key = "model" if version.name == mlflow_store.MODEL else "thresholds"
    field = "bundle_sha256" if key == "model" else "thresholds_sha256"
    known = (getattr(item, field) for item in reversed(log.changes(store)) if getattr(item.after, key) == version.number)
    return next(known, None) or version.tags.get(TAGS[version.name])


def _compare(store: Path, version: Version, found: str, path: Path) -> None:
    wanted = expected(store, version)
    if wanted is None:
        raise BadUse(f"{version.label}: carries no digest (tag {TAGS[version.name]}), so its files cannot be checked; register it anew")
    if found != wanted:
        digests = f"SHA-256 {found[:12]}…, expected {wanted[:12]}…"
        raise FailedWork(f"{version.label}: {path} is not what was registered ({digests}); restore it, or use another version")
