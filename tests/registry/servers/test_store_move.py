"""A copied store neither reads nor writes its original: it is refused, until `upheld store move` has made it a store of its own."""

import fcntl
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.finished_workspaces import assemble, register_two_that_pass_and_one_that_is_held, write_workspace
from upheld import cli
from upheld.common.errors import FailedWork
from upheld.registry.runs import register
from upheld.registry.servers import airflow_server, store_move
from upheld.registry.tracking import mlflow_store
from upheld.training.pipeline import bundle


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in a folder whose name a URI writes otherwise, with three models and what Airflow and DVC keep of a run."""
    store = tmp_path_factory.mktemp("first") / "a störe 100%"
    register_two_that_pass_and_one_that_is_held(store)
    settings = store / "runs/run-1/.dvc/config.local"
    settings.parent.mkdir()
    settings.write_text(f"[core]\n    site_cache_dir = {store}/runs/run-1/.dvc/site\n[cache]\n    dir = {store}/dvc-cache\n")
    (store / "runs/run-1/results").mkdir()
    (store / "runs/run-1/results/prepare.json").write_text(json.dumps({"workspace": f"{store}/runs/run-1"}))
    (store / "airflow").mkdir()
    (store / "airflow/airflow.cfg").write_text(
        f"base_log_folder = {store}/airflow/logs\nsql_alchemy_conn = sqlite:///{store}/airflow/airflow.db\nelsewhere = {store}-2/logs\n"
    )
    with sqlite3.connect(store / "airflow/airflow.db") as connection:
        connection.execute("CREATE TABLE xcom (key TEXT, value JSON)")
        connection.execute("INSERT INTO xcom VALUES ('return_value', ?)", (json.dumps(f"{store}/runs/run-1"),))
    return store


@pytest.fixture
def store(registered: Path, tmp_path: Path) -> Path:
    """The first store at a place of its own, moved there as a whole."""
    place = tmp_path / "original"
    shutil.copytree(registered, place)
    store_move.run(place)
    return place


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def copy_of(store: Path) -> Path:
    return Path(shutil.copytree(store, store.with_name("a copy")))


def names(text: Path | str, folder: Path) -> bool:
    """Whether the folder is named in a file or text, however it is written."""
    said = text if isinstance(text, str) else text.read_bytes().decode("latin-1")
    forms = {str(folder), folder.as_uri(), json.dumps(str(folder))[1:-1]}
    return any(f"{form.encode().decode('latin-1')}{end}" in said for form in forms for end in "/\"'\n")


def test_a_copy_is_refused_with_the_command_and_nothing_is_changed(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copied, original = copy_of(store), contents(store)
    before = contents(copied)
    with pytest.raises(FailedWork, match=f"was copied or moved from {store}.*`upheld store move --store '{copied}'`"):
        mlflow_store.connect(copied)
    with pytest.raises(FailedWork, match="upheld store move"):
        airflow_server.environment(copied)
    assert cli.main(["diff", "1", "2", "--store", str(copied)]) == 1
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert f"upheld store move --store '{copied}'" in error
    assert (contents(copied), contents(store)) == (before, original)


def test_a_moved_copy_reads_and_writes_its_own_files_alone(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied, original = copy_of(store), contents(store)
    assert cli.main(["store", "move", "--store", str(copied)]) == 0
    registry = mlflow_store.connect(copied)
    version = mlflow_store.resolve(registry, mlflow_store.MODEL, "2")
    assert mlflow_store.bundle_path(registry, version).is_relative_to(copied)
    assert json.loads((mlflow_store.bundle_path(registry, version) / "pipeline.json").read_text())["lock"] == "2"
    thresholds = mlflow_store.resolve(registry, mlflow_store.THRESHOLDS, "2")
    assert (
        json.loads(mlflow_store.thresholds_path(registry, thresholds).read_text())["categories"]["spam"]["auto_remove"]["threshold"] == 0.8
    )
    monkeypatch.setattr(bundle, "assemble", assemble)
    registered = register.run(write_workspace(copied / "runs/run-4", lock="4"), copied)
    assert registered["model"] == "upheld-moderation/4"
    assert contents(store) == original
    with sqlite3.connect(copied / "mlflow/mlflow.db") as connection:
        for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            assert not [row for row in connection.execute(f'SELECT * FROM "{table}"') if names(f"{row}\n", store)], table


def test_whatever_else_names_the_old_folder_is_rewritten_and_what_only_looks_like_it_is_not(store: Path) -> None:
    copied = copy_of(store)
    done = store_move.run(copied)
    assert (done["moved_from"], done["store"]) == (str(store), str(copied))
    rewritten = ["airflow/airflow.cfg", "airflow/airflow.db", "mlflow/mlflow.db"]
    rewritten += ["runs/run-1/.dvc/config.local", "runs/run-1/results/prepare.json"]
    assert sorted(done["rewritten"]) == rewritten
    assert done["rewritten"]["runs/run-1/.dvc/config.local"] == 2
    assert not [name for name in rewritten if names(copied / name, store) and name.endswith((".cfg", ".local", ".json"))]
    assert f"base_log_folder = {copied}/airflow/logs\n" in (copied / "airflow/airflow.cfg").read_text()
    assert f"sqlite:///{copied}/airflow/airflow.db\n" in (copied / "airflow/airflow.cfg").read_text()
    assert "-2/logs\n" in (copied / "airflow/airflow.cfg").read_text()
    assert f"{copied}-2" not in (copied / "airflow/airflow.cfg").read_text()
    with sqlite3.connect(copied / "airflow/airflow.db") as connection:
        assert json.loads(connection.execute("SELECT value FROM xcom").fetchone()[0]) == f"{copied}/runs/run-1"


def test_a_second_move_changes_nothing(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copied = copy_of(store)
    store_move.run(copied)
    before = contents(copied)
    assert store_move.run(copied) == {"store": str(copied), "moved_from": None, "rewritten": {}}
    assert cli.main(["store", "move", "--store", str(copied)]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert contents(copied) == before


def test_a_move_that_was_cut_off_is_gone_on_with_also_into_the_original_itself(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = Path(shutil.copytree(store, store / "backup"))  # its new name begins with the old one
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_move, "DATABASES", ("airflow/airflow.db", "missing.db"))
        store_move.run(inner)
    with pytest.raises(FailedWork, match="store move"):
        mlflow_store.connect(inner)
    store_move.run(inner)
    mlflow_store.connect(inner)
    assert f"base_log_folder = {inner}/airflow/logs\n" in (inner / "airflow/airflow.cfg").read_text()
    with sqlite3.connect(inner / "airflow/airflow.db") as connection:
        assert json.loads(connection.execute("SELECT value FROM xcom").fetchone()[0]) == f"{inner}/runs/run-1"


def test_a_store_that_was_moved_away_is_refused_and_moved(store: Path) -> None:
    place = store.rename(store.with_name("moved"))
    with pytest.raises(FailedWork, match="store move"):
        mlflow_store.connect(place)
    store_move.run(place)
    registry = mlflow_store.connect(place)
    version = mlflow_store.resolve(registry, mlflow_store.MODEL, "1")
    assert mlflow_store.bundle_path(registry, version).is_relative_to(place)
    assert not store.exists()


def test_links_and_relative_paths_are_no_copies(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(store.parent)
    mlflow_store.connect(Path(store.name))
    link = store.with_name("link")
    link.symlink_to(store)
    mlflow_store.connect(link)
    other = store.with_name("elsewhere")
    store.rename(other)
    store.symlink_to(other)  # the old name still leads there
    mlflow_store.connect(store)
    mlflow_store.connect(other)
    assert store_move.run(other)["moved_from"] is None


@pytest.mark.parametrize("lock", ["airflow/up.lock", "ledger/.lock"])
def test_a_store_on_which_something_runs_is_left_alone(store: Path, lock: str) -> None:
    copied = copy_of(store)
    (copied / lock).parent.mkdir(exist_ok=True)
    with (copied / lock).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        before = contents(copied)
        with pytest.raises(FailedWork, match="runs on it"):
            store_move.run(copied)
        assert contents(copied) == before


def test_a_retrain_that_runs_on_the_store_is_noticed(store: Path) -> None:
    copied = copy_of(store)
    running = [sys.executable, "-c", "print(flush=True); input()"]
    environment = os.environ | {"AIRFLOW_HOME": str(copied / "airflow")}
    with subprocess.Popen(running, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(FailedWork, match=f"process {process.pid} runs on it"):
            store_move.run(copied)
        process.kill()


def test_a_folder_that_is_not_there_is_bad_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["store", "move", "--store", str(tmp_path / "none")]) == 2
    assert "no such folder" in capsys.readouterr().err
