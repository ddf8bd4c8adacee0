"""A repository in small: our runner, DAGs and commands around a graph of three stages that take no time; Airflow's servers on it."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow_servers import Airflow, start
from finished_workspaces import register_two_that_pass_and_one_that_is_held
from score_worlds import PARAMS
from weeks import deliver, tables

from upheld.feature_store.ingest import command as ingest

REPOSITORY = Path(__file__).resolve().parents[2]
TOY = Path(__file__).parent / "toy"
STANDS_IN_FOR = {
    "pin.py": "registry/runs/pin.py",
    "register.py": "registry/runs/register.py",
    "live.py": "registry/runs/live.py",
    "follow.py": "registry/runs/follow.py",
    "ingest.py": "feature_store/ingest/command.py",
    "features.py": "feature_store/extraction/command.py",
    "weekly.py": "evaluation/weekly/command.py",
}
RESPONSE_TIMEOUT_H = 120 / 3600


class Toy:
    """The toy repository with a store of its own."""

    def __init__(self, root: Path, store: Path) -> None:
        self.root, self.store = root, store
        store.mkdir(parents=True)
        self.values(1, 2, 3)

    def values(self, *values: int) -> None:
        """What the next run pins."""
        (self.store / "values.json").write_text(json.dumps({"values": values}))

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start `python -m ARGUMENTS` in the toy repository."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("AIRFLOW", "UPHELD"))}
        return subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=self.root,
            env=inherited | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def call(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `python -m ARGUMENTS` in the toy repository to its end."""
        with self.start(*arguments, **environment) as process:
            out, err = process.communicate(timeout=300)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def runner(self, task: str, *arguments: str) -> tuple[int, dict[str, Any]]:
        """Run one task of the runner; its exit code and result."""
        answer = self.store / "answer.json"
        answer.unlink(missing_ok=True)
        done = self.call("upheld.dags.runner.run_stage", task, *arguments, "--store", str(self.store), "--result", str(answer))
        return done.returncode, json.loads(answer.read_text())

    def prepare(self, run_id: str, params: dict[str, Any] | None = None, **facts: str) -> tuple[int, dict[str, Any]]:
        """Run the tasks `prepare`, `features` and `pin`, up to the first that fails; exit code and result of `prepare`, or of that one."""
        asked = ["--params", json.dumps(params or {}), "--facts", json.dumps(facts)]
        code, result = self.runner("prepare", "--root", str(self.root), "--run-id", run_id, *asked)
        for task in ("features", "pin"):
            if code == 0:
                code, told = self.runner(task, "--workspace", str(self.workspace(run_id)))
                result = told if code else result
        return code, result

    def workspace(self, run_id: str) -> Path:
        return self.store / "runs" / run_id

    def stage(self, name: str, run_id: str, *options: str) -> tuple[int, dict[str, Any]]:
        """Run the task of one stage."""
        return self.runner("stage", name, "--workspace", str(self.workspace(run_id)), *options)


@pytest.fixture(scope="session")
def toy_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy of what the runner needs; what speaks to the ledger or to MLflow is replaced by stand-ins."""
    root = tmp_path_factory.mktemp("toy_repository")
    without_caches = shutil.ignore_patterns("__pycache__")
    for package in ("dags", "evaluation", "feature_store", "registry", "upheld", "common"):
        shutil.copytree(REPOSITORY / package, root / package, symlinks=True, ignore=without_caches)
    shutil.copytree(TOY, root / "toy", ignore=without_caches)
    (root / "toy" / "dvc.yaml").rename(root / "dvc.yaml")
    for name, place in STANDS_IN_FOR.items():
        (root / "toy" / name).replace(root / place)
    shutil.copy(REPOSITORY / "params.yaml", root / "params.yaml")
    shutil.copy(REPOSITORY / ".dvcignore", root / ".dvcignore")
    (root / ".dvc").mkdir()
    shutil.copy(REPOSITORY / ".dvc" / "config", root / ".dvc" / "config")
    return root


@pytest.fixture(scope="session")
def make_toy(toy_root: Path) -> Callable[[Path], Toy]:
    """Gives the toy repository with an empty store in the folder."""
    return lambda store: Toy(toy_root, store)


@pytest.fixture
def toy(make_toy: Callable[[Path], Toy], tmp_path: Path) -> Toy:
    """The toy repository with an empty store."""
    return make_toy(tmp_path / "store")


@pytest.fixture(scope="session")
def airflow(toy_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    """`upheld up` on a store with three models, two of which the gate lets pass, and a week of the first one's decisions.

    Nobody waits for an answer for long.
    """
    folder = tmp_path_factory.mktemp("approval")
    root, store = folder / "repository", folder / "store"
    shutil.copytree(toy_root, root, symlinks=True)
    params = (root / "params.yaml").read_text()
    (root / "params.yaml").write_text(params.replace("response_timeout_h: 72.0", f"response_timeout_h: {RESPONSE_TIMEOUT_H}"))
    shutil.copy(REPOSITORY / STANDS_IN_FOR["weekly.py"], root / STANDS_IN_FOR["weekly.py"])  # the real one again
    register_two_that_pass_and_one_that_is_held(store)
    delivery = deliver(folder / "delivery", tables(models=("upheld-moderation/1",)))
    assert ingest.main([str(delivery), "--store", str(store), "--params", str(PARAMS), "--as-of", "2026-10-30T00:00:00Z"]) == 0
    with start(root, store) as up:
        try:
            assert up.stdout is not None
            served = Airflow(json.loads(up.stdout.readline()), store)
            for dag in ("promote", "weekly_calibration"):
                served.ask("PATCH", f"/api/v2/dags/{dag}", {"is_paused": False})
            yield served
        finally:
            up.terminate()
            up.communicate(timeout=90)
