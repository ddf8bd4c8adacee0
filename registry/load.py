"""Load a registered model, or a bundle, to score posts of text alone from Python: what `upheld.load` does."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from upheld import ROOT
from upheld.common.command import STORE_FOLDER
from upheld.common.errors import BadUse
from upheld.common.params import params
from upheld.registry.approvals import verified
from upheld.registry.production import champion
from upheld.registry.tracking import mlflow_store

if TYPE_CHECKING:
    from upheld.training.scoring.frame import FrameScorer

URIS = " or ".join(f"models:/{mlflow_store.MODEL}{end}" for end in ("@ALIAS", "/VERSION"))
MODEL_URI = re.compile(rf"models:/{mlflow_store.MODEL}(?:@(?P<alias>[\w.-]+)|/(?P<version>\d+))")


def load(model: str | Path, store: str | Path | None = None) -> "FrameScorer":
    """As `upheld.load` says. The networks are imported once the model is found: a mistake is said at once.

    No code of the registry runs: only the files of the bundle are read, after their digests were checked.

    Raises:
        BadUse: the URI is no model of ours, or there is no such folder, registry, version or alias.
        FailedWork: the files are not those that were registered, or alias champion names what nobody approved.
    """
    place = Path(store or os.environ.get("UPHELD_STORE") or STORE_FOLDER)
    settings = params.load(ROOT / "upheld" / params.FILE, store=place)
    folder = _registered(str(model), place) if str(model).startswith("models:") else Path(model)
    if not folder.is_dir():
        raise BadUse(f"{model}: no such folder; name that of a bundle, or {URIS}")
    from upheld.training.pipeline import bundle
    from upheld.training.scoring.frame import FrameScorer

    return FrameScorer(bundle.load(folder), settings)


def _registered(uri: str, store: Path) -> Path:
    """The bundle that an MLflow URI names, its digest checked."""
    named = MODEL_URI.fullmatch(uri)
    if named is None:
        raise BadUse(f"{uri}: expected {URIS}")
    registry = mlflow_store.connect(store, create=False)
    reference = named["alias"] or named["version"]
    if named["alias"] == champion.ALIAS and store.is_dir():  # a registry without its store has no approvals to compare with
        approved = champion.in_production(store, registry).model
        reference = champion.ALIAS if approved is None else str(approved)
    return verified.bundle(store, registry, mlflow_store.resolve(registry, mlflow_store.MODEL, reference))
