"""The only module that speaks to MLflow: runs, registered versions, aliases, artifacts."""

import logging
import os
import re
import tempfile
import tomllib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pandas as pd

from upheld import ROOT
from upheld.common.errors import BadUse, FailedWork
from upheld.registry.tracking import place as store_place
from upheld.registry.tracking import wheel

MODEL = "upheld-moderation"
THRESHOLDS = "upheld-thresholds"
INCUMBENT = "upheld.incumbent"  # tag of a model that needs the score of another: which one
EXPERIMENT = "retrain"
NOTE = "mlflow.note.content"  # tag of a run whose value MLflow shows as its description
MAX_DESCRIPTION = 5000  # characters, of a version: width of the column in MLflow's database
PYFUNC_SCRIPT = Path(__file__).with_name("pyfunc_pipeline.py")
BUNDLE_IN_MODEL = Path("artifacts") / "bundle"  # where MLflow puts the artifact named "bundle" inside a logged model
SERVING = "serve"  # the extra in pyproject.toml that names what a served model imports
PROJECT = ROOT / "pyproject.toml"
MAX_PARAM_CHARS = 6000  # limit of MLflow's parameter values: mlflow.utils.validation.MAX_PARAM_VAL_LENGTH


@dataclass(frozen=True)
class Version:
    """One registered version of a model or of its thresholds."""

    name: str
    number: int
    run_id: str
    tags: Mapping[str, str]
    source: str

    @property
    def label(self) -> str:
        """Name and number, `upheld-moderation/3`: what decisions carry as their model_version."""
        return f"{self.name}/{self.number}"


@dataclass(frozen=True)
class Registry:
    """An open MLflow tracking store and registry."""

    mlflow: Any
    client: Any
    experiment_id: str


def tracking_uri(store: Path) -> str:
    """Address of the tracking store: $MLFLOW_TRACKING_URI where set, else SQLite inside `store`."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(store / 'mlflow' / 'mlflow.db').resolve()}"


def exists(store: Path) -> bool:
    """Whether there is a registry to read: one at $MLFLOW_TRACKING_URI, or the database of `store`."""
    return "MLFLOW_TRACKING_URI" in os.environ or (store / "mlflow" / "mlflow.db").exists()


def connect(store: Path, create: bool = True) -> Registry:
    """Open the registry of `store`.

    Args:
        store: folder with the registry.
        create: make it where there is none; who only reads leaves nothing behind.

    Raises:
        BadUse: there is none, and it is not to be made.
        FailedWork: the tracking store cannot be opened, or `store` is a copy that names its original; nothing is registered then.
    """
    if not create and not exists(store):
        raise BadUse(f"nothing is registered in {store} yet; `upheld retrain` makes the first version")
    if "MLFLOW_TRACKING_URI" not in os.environ:
        store_place.refuse_copied(store)
        (store / "mlflow").mkdir(mode=0o700, parents=True, exist_ok=True)
    import mlflow

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        address = os.environ.get("MLFLOW_TRACKING_URI")
        mlflow.set_tracking_uri(tracking_uri(store))
        if address is None:  # set_tracking_uri exports it, and the next store of this process would be mistaken for this one
            os.environ.pop("MLFLOW_TRACKING_URI", None)
        client = mlflow.MlflowClient()
        experiment = client.get_experiment_by_name(EXPERIMENT)
        location = None if address else (store / "mlflow" / "artifacts").resolve().as_uri()
        experiment_id = experiment.experiment_id if experiment else client.create_experiment(EXPERIMENT, artifact_location=location)
    except Exception as error:
        raise FailedWork(f"MLflow at {tracking_uri(store)} cannot be opened ({error}); check the address or the server") from error
    return Registry(mlflow, client, experiment_id)


def versions(registry: Registry, name: str) -> list[Version]:
    """All versions registered under `name`, newest first; empty where nothing was registered."""
    found = registry.client.search_model_versions(f"name = '{name}'")
    return sorted((_version(item) for item in found), key=lambda version: -version.number)


def by_alias(registry: Registry, name: str, alias: str) -> Version | None:
    """The version that `alias` points at, or None."""
    try:
        return _version(registry.client.get_model_version_by_alias(name, alias))
    except registry.mlflow.exceptions.MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def resolve(registry: Registry, name: str, reference: str) -> Version:
    """The version that a number or an alias names.

    Raises:
        BadUse: there is no such version; the message lists what there is.
    """
    found = next((v for v in versions(registry, name) if str(v.number) == reference), None) or by_alias(registry, name, reference)
    if found is None:
        known = ", ".join(str(v.number) for v in versions(registry, name)) or "none; `upheld retrain` makes the first"
        raise BadUse(f"{name}: no version or alias {reference!r}; versions here: {known}")
    return found


def bundle_path(registry: Registry, version: Version) -> Path:
    """Local folder of a model version's bundle (a download where the store is remote)."""
    with _quiet():
        folder = registry.mlflow.artifacts.download_artifacts(f"models:/{version.name}/{version.number}")
    return Path(folder) / BUNDLE_IN_MODEL


def thresholds_path(registry: Registry, version: Version) -> Path:
    """Local thresholds.json of a thresholds version."""
    return run_artifact(registry, version.run_id, "calibration/thresholds.json")


def run_artifact(registry: Registry, run_id: str, name: str) -> Path:
    """Local path of one artifact of a run (in place where the artifact store is local)."""
    found = artifact_file(registry, run_id, name)
    if found:
        return found
    with _quiet():
        return Path(registry.mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=name))


def run_files(registry: Registry, run_id: str, folder: str) -> set[str]:
    """Names of a run's artifacts directly in `folder`, such as `evaluation/gate.json`; empty where there is no such folder."""
    return {item.path for item in registry.client.list_artifacts(run_id, folder)}


def run_name(registry: Registry, run_id: str) -> str:
    """Name of a run; a retrain's is that of its workspace."""
    return str(registry.client.get_run(run_id).info.run_name)


def run_params(registry: Registry, run_id: str) -> dict[str, str]:
    """Parameters of a run."""
    return dict(registry.client.get_run(run_id).data.params)


@contextmanager
def recorded_run(registry: Registry, name: str, tags: Mapping[str, str], run_id: str | None = None) -> Iterator[str]:
    """A run that ends as FINISHED, or as FAILED when the block raises: the one of `run_id`, or a new one. Yields its id."""
    start = registry.mlflow.start_run
    with start(run_id=run_id, experiment_id=registry.experiment_id, run_name=name, tags=dict(tags)) as run:
        yield run.info.run_id


def log_facts(registry: Registry, run_id: str, params: Mapping[str, Any], files: Sequence[tuple[Path, str]]) -> None:
    """Log parameters and artifacts of a run; a second time changes nothing.

    Args:
        params: flat parameters; values are shown as text.
        files: (file or folder, artifact folder, "" for the top).
    """
    from mlflow.entities import Param

    texts = [Param(key, str(value)[:MAX_PARAM_CHARS]) for key, value in params.items()]
    for start in range(0, len(texts), 100):  # MLflow takes at most 100 parameters a batch
        registry.client.log_batch(run_id, params=texts[start : start + 100])
    for path, folder in files:
        log = registry.client.log_artifacts if path.is_dir() else registry.client.log_artifact
        log(run_id, str(path), folder or None)


def log_table(registry: Registry, run_id: str, table: pd.DataFrame, name: str) -> None:
    """Log a table as artifact `FOLDER/NAME.json`, which MLflow's pages show and compare between runs; one that is there stays."""
    if name not in run_files(registry, run_id, name.rpartition("/")[0]):  # MLflow would add the rows to it
        with _quiet():
            registry.client.log_table(run_id, table, name)


def log_dataset(registry: Registry, run_id: str, name: str, content_digest: str, source: Mapping[str, Any], profile: str) -> None:
    """Attach a training data set (name, digest, where it came from, counts as JSON) to a run."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    import_source = str(dict(source))
    # MLflow keeps at most 36 characters of a data set's digest; the whole one is a tag of the version
    dataset = Dataset(name=name, digest=content_digest[:36], source_type="upheld_ledger", source=import_source, profile=profile)
    registry.client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])


def register_bundle(registry: Registry, bundle: Path, policies: Sequence[str], tags: Mapping[str, str]) -> Version:
    """Log `bundle` as a models-from-code pyfunc (no pickle) of the active run and register it.

    Its requirements are pinned and name its own wheel of this code, which lies beside the bundle: `upheld` is nobody's on PyPI, so that a
    requirement of that name could be anybody's code.

    Args:
        bundle: folder written by upheld.training.pipeline.bundle.assemble.
        policies: those that it predicts.
        tags: lineage tags of the new version.

    Raises:
        FailedWork: no wheel of this code can be built.
    """
    name, content = wheel.built()
    with _quiet(), tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / name).write_bytes(content)
        logged = registry.mlflow.pyfunc.log_model(
            name="pipeline",
            python_model=str(PYFUNC_SCRIPT),
            artifacts={"bundle": str(bundle), "wheel": str(Path(scratch) / name)},
            pip_requirements=[*_requirements(), f"./artifacts/{name}"],
            signature=_signature(policies),
            input_example=pd.DataFrame({"post_id": ["p1", "p2"], "text": ["Win a free phone today!", "Tschüss, bis morgen"]}),
        )
        return _version(registry.mlflow.register_model(logged.model_uri, MODEL, tags=dict(tags)))


def register_thresholds(registry: Registry, run_id: str, tags: Mapping[str, str]) -> Version:
    """Register the run's calibration artifacts as the next version of the thresholds."""
    if not registry.client.search_registered_models(f"name = '{THRESHOLDS}'"):
        registry.client.create_registered_model(THRESHOLDS)
    return _version(registry.client.create_model_version(THRESHOLDS, source=f"runs:/{run_id}/calibration", run_id=run_id, tags=dict(tags)))


def point_alias(registry: Registry, alias: str, version: Version) -> None:
    """Let `alias` name `version`."""
    registry.client.set_registered_model_alias(version.name, alias, str(version.number))


def tag_version(registry: Registry, version: Version, tags: Mapping[str, str]) -> None:
    """Set tags of a registered version; those that it has keep their names and take the new values."""
    for key, value in tags.items():
        registry.client.set_model_version_tag(version.name, str(version.number), key, value)


def describe(registry: Registry, run_id: str, of: Sequence[Version], text: str) -> None:
    """Put a text in Markdown above a run and above versions, where MLflow's pages show it; lines beyond its limit stay out."""
    if len(text) > MAX_DESCRIPTION:
        text = text[: MAX_DESCRIPTION - 2].rpartition("\n")[0] + "\n…"
    registry.client.set_tag(run_id, NOTE, text)
    for version in of:
        registry.client.update_model_version(version.name, str(version.number), text)


def run_page(registry: Registry, run_id: str) -> str | None:
    """Address at which MLflow's own pages show a run; None where no address of them is known."""
    server = os.environ.get("UPHELD_MLFLOW_PAGES") or os.environ.get("MLFLOW_TRACKING_URI", "")
    if not server.startswith(("http://", "https://")):
        return None
    return f"{server.rstrip('/')}/#/experiments/{registry.experiment_id}/runs/{run_id}"


def artifact_file(registry: Registry, run_id: str, name: str) -> Path | None:
    """Where an artifact of a run lies for as long as the registry does; None where the artifact store is no folder of this machine."""
    location = urlsplit(registry.client.get_run(run_id).info.artifact_uri)
    path = Path(unquote(location.path)) / name
    return path if location.scheme in ("", "file") and path.is_file() else None


def _version(item: Any) -> Version:
    return Version(item.name, int(item.version), item.run_id or "", dict(item.tags), item.source)


def _requirements() -> list[str]:
    """The packages that a served model imports, each pinned to the version at hand."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"][SERVING]]
    names = [re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in needed]
    return [f"{name}=={metadata.version(name).partition('+')[0]}" for name in names]  # a local build's suffix is on no index


def _signature(policies: Sequence[str]) -> Any:
    """What `FrameScorer.predict` takes and gives. Media are in it in order to be refused: MLflow drops what a signature does not name."""
    from mlflow.models import ModelSignature
    from mlflow.types.schema import AnyType, Array, ColSpec, DataType, Schema

    known = [
        ColSpec(DataType.string, "post_id"),
        ColSpec(DataType.string, "text"),
        ColSpec(DataType.string, "language", required=False),
        ColSpec(Array(DataType.string), "hashtags", required=False),
        ColSpec(DataType.long, "prior_removals", required=False),
        ColSpec(AnyType(), "media", required=False),
    ]
    probs = [ColSpec(DataType.double, f"prob_{policy}") for policy in policies]
    return ModelSignature(Schema(known), Schema([ColSpec(DataType.string, "post_id"), *probs]))


@contextmanager
def _quiet() -> Iterator[None]:
    """MLflow shows a bar for each file, warns of what it cannot infer, and looks at a sample by what pandas calls outdated."""
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    with warnings.catch_warnings():
        for kind in (UserWarning, DeprecationWarning):
            warnings.simplefilter("ignore", category=kind)
        yield
