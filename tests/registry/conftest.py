"""Workspaces to register, with a stand-in for assembling the model; registries that need not be migrated one by one."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from finished_workspaces import assemble, write_workspace

from upheld.registry.tracking import mlflow_store
from upheld.training.pipeline import bundle


@pytest.fixture
def make_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    monkeypatch.setattr(bundle, "assemble", assemble)
    return lambda name, **content: write_workspace(tmp_path / "runs" / name, **content)


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """Database of MLflow with all its tables and nothing in them; made when it is first asked for."""
    database = tmp_path_factory.mktemp("migrated") / "mlflow.db"

    def made() -> Path:
        if not database.exists():
            from mlflow.store.db import utils

            engine = utils.create_sqlalchemy_engine(f"sqlite:///{database}")
            utils._initialize_tables(engine)
            engine.dispose()
        return database

    return made


@pytest.fixture(autouse=True, scope="module")  # a module's store comes after it
def new_registries_are_copied(migrated: Callable[[], Path]) -> Iterator[None]:
    """A new store gets a copy of that database where MLflow would make and migrate its own, which takes 2.6 s of CPU time each."""
    address = mlflow_store.tracking_uri

    def tracking_uri(store: Path) -> str:
        database = store / "mlflow" / "mlflow.db"
        if address(store) == f"sqlite:///{database.resolve()}" and database.parent.is_dir() and not database.exists():
            shutil.copy(migrated(), database)
        return address(store)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mlflow_store, "tracking_uri", tracking_uri)
        yield
