"""Load a registered model, or a bundle, to score posts of text alone from Python: what `upheld.load` does."""

import os
import re
from pathlib import Path

from upheld import ROOT
from upheld.common.command import STORE_FOLDER
from upheld.common.errors import BadUse
from upheld.common.params import params
from upheld.registry.approvals import verified
from upheld.registry.production import champion
from upheld.registry.tracking import mlflow_store
from upheld.training.pipeline import bundle
from upheld.training.scoring.frame import FrameScorer

MODEL_URI = re.compile(rf"models:/{mlflow_store.MODEL}(?:@(?P<alias>[\w.-]+)|/(?P<version>\d+))")


def load(model: str | Path, store: str | Path | None = None) -> FrameScorer:
    """As `upheld.load` says.

    No code of the registry runs: only the files of the bundle are read, after their digests were checked.

    Raises:
        BadUse: the URI is no model of ours, or there is no such folder, registry, version or alias.
        FailedWork: the files are not those that were registered, or alias champion names what nobody approved.
    """
    place = Path(store or os.environ.get("UPHELD_STORE") or STORE_FOLDER)
    settings = params.load(ROOT / "upheld" / params.FILE, store=place)
    if not str(model).startswith("models:"):
        if not (Path(model) / bundle.DESCRIPTION).is_file():
            raise BadUse(f"{model}: no bundle, which has {bundle.DESCRIPTION}; name one, or models:/{mlflow_store.MODEL}@ALIAS")
        return FrameScorer(bundle.load(Path(model)), settings)
    named = MODEL_URI.fullmatch(str(model))
    if named is None:
        uris = " or ".join(f"models:/{mlflow_store.MODEL}{end}" for end in ("@ALIAS", "/VERSION"))
        raise BadUse(f"{model}: expected {uris}")
    registry = mlflow_store.connect(place, create=False)
    reference = named["alias"] or named["version"]
    if named["alias"] == champion.ALIAS and place.is_dir():  # a registry without its store has no approvals to compare with
        approved = champion.in_production(place, registry).model
        reference = champion.ALIAS if approved is None else str(approved)
    version = mlflow_store.resolve(registry, mlflow_store.MODEL, reference)
    return FrameScorer(bundle.load(verified.bundle(place, registry, version)), settings)
