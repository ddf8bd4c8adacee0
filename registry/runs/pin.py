"""Pin what a retrain starts from: versions of the ledger's and the features' tables, logo data, and the champion whose line goes on.

usage: python -m upheld.registry.runs.pin --store store --out data/inputs.json
"""

import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from upheld.common import files
from upheld.common.command import PARAM_OPTIONS, STORE_FOLDER, ParamOptions, StoreFolder, command
from upheld.common.errors import FailedWork
from upheld.common.params import params as parameters
from upheld.feature_store.contracts import hashing
from upheld.feature_store.contracts.workspace import INPUTS, FeaturePins, PinnedTable
from upheld.feature_store.decisions import freezes, holds
from upheld.feature_store.extractors import catalogue
from upheld.feature_store.features.table import FeatureStore
from upheld.feature_store.ledger.ledger import Ledger
from upheld.feature_store.logos import store as logo_store
from upheld.registry.approvals import verified
from upheld.registry.production import champion
from upheld.registry.tracking import mlflow_store


def run(store: Path, out: Path, params: parameters.Params) -> dict[str, Any]:
    """Write the only external dependency of the graph.

    Args:
        store: folder with ledger, features, logos and registry.
        out: `inputs.json` to write: table versions, features, logo_datasets, logo_marks, as_of, ledger_digest, champion, synthetic,
            frozen, held.
            Equal content for equal ledger, features, logos and champion, so that nothing new means nothing to do.
        params: of the run; with them each extractor has the version whose rows are meant.

    Raises:
        FailedWork: the ledger is empty, Great Expectations refused the last batch, or a logo dataset of the store is not finished.
    """
    ledger = Ledger(store)
    if ledger.as_of is None:
        raise FailedWork(f"{store}: the ledger holds nothing yet; take a delivery in first with `upheld ingest DELIVERY --store {store}`")
    refused = [check for check in ledger.validation.get("checks", []) if not check["success"]]
    if refused:
        names = "; ".join(str(check["name"]) for check in refused)
        raise FailedWork(
            f"{store}: the last batch failed its expectations ({names}); deliver what is missing or change them, and ingest again"
        )
    inputs = {
        "tables": ledger.versions,
        **pinned_features(store, params).model_dump(),
        **logo_store.pins(store).model_dump(),
        "as_of": ledger.as_of.isoformat(),
        "ledger_digest": ledger.content_digest(),
        "champion": export_champion(store),
        "synthetic": ledger.synthetic,
        "frozen": [event.model_dump(mode="json") for event in freezes.frozen(store).values()],
        "held": [event.model_dump(mode="json") for event in holds.held(store).values()],
    }
    files.write_json(out, inputs)
    return inputs


def pinned_features(store: Path, params: parameters.Params) -> FeaturePins:
    """Tables of the feature store that the run may read.

    Returns:
        each table whose extractor can run here; none where nothing was extracted.
    """
    pins = FeaturePins(features_location=params.features.location)
    for name, lance_version in FeatureStore(pins.location(store)).versions.items():
        extractor = catalogue.make(name, params) if name in catalogue.EXTRACTORS else None
        if extractor and extractor.unavailable() is None:
            pins.features[name] = PinnedTable(lance_version=lance_version, extractor_version=extractor.version, kind=extractor.kind)
    return pins


def export_champion(store: Path) -> dict[str, Any] | None:
    """Copy the champion's bundle to `store/bundles/DIGEST`, where stages read it without knowing the registry.

    Returns:
        {"version": number, "digest": SHA-256 of the bundle}, or None where nothing is in production.

    Raises:
        FailedWork: alias champion names what nobody approved, or the bundle's files are not those that were approved.
    """
    registry = mlflow_store.connect(store)
    number = champion.in_production(store, registry).model
    if number is None:
        return None
    model = mlflow_store.resolve(registry, mlflow_store.MODEL, str(number))
    bundle_digest = verified.expected(store, model)
    exported = store / "bundles" / str(bundle_digest)
    if not exported.exists():
        with files.replacing_folder(exported) as folder:
            shutil.copytree(verified.bundle(store, registry, model), folder, dirs_exist_ok=True)
            if hashing.of_folder(folder) != bundle_digest:
                raise FailedWork(f"{model.label}: its files changed while they were copied; do not train from it")
    return {"version": number, "digest": bundle_digest}


@command("pin")
def main(
    store: StoreFolder = STORE_FOLDER,
    out: Annotated[Path, typer.Option(help="JSON to write.")] = INPUTS,
    asked: ParamOptions = PARAM_OPTIONS,
) -> None:
    """Pin what a retrain starts from."""
    run(store, out, parameters.load(*asked, store))


if __name__ == "__main__":
    sys.exit(main())
