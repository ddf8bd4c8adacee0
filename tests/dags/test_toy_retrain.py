"""`upheld retrain`, `runs` and `rerun` through Airflow, on the toy graph."""

import json
import re
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest


def command(toy: Any, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return toy.call("upheld.cli", name, *arguments, "--store", str(toy.store))


def statuses(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    assert done.returncode == 0, done.stderr
    return {name: result["status"] for name, result in json.loads(done.stdout)["tasks"].items()}


def log(toy: Any, task: str) -> str:
    """The one line that the task's command prints, as Airflow's page reads it from the only run's log and as the workspace keeps it."""
    (page,) = (toy.store / "airflow" / "logs").glob(f"dag_id=retrain/run_id=*/task_id={task}/attempt=1.log")
    (kept,) = toy.store.glob(f"runs/*/logs/{task}.log")
    said = [json.loads(line)["event"] for line in page.read_text().splitlines()]
    assert said == kept.read_text().splitlines()
    (line,) = [line for line in said if line.endswith(("extract", "copy")) and not line.startswith(">")]
    return line


def mlflow_buttons(toy: Any, name: str) -> dict[str, str]:
    """Of each task of a run, where the button `Run in MLflow` of its page leads to; Airflow asks its table of XComs likewise."""
    query = "SELECT run_id, task_id, value FROM xcom WHERE key = '_link_InMlflow'"
    with closing(sqlite3.connect(toy.store / "airflow" / "airflow.db")) as database:
        rows = database.execute(query).fetchall()
    return {task: json.loads(value) for run, task, value in rows if re.sub(r"[^A-Za-z0-9_.-]", "-", run) == name}


@pytest.mark.slow
def test_the_second_run_finds_nothing_to_do(toy: Any) -> None:
    first = statuses(command(toy, "retrain", "--json"))
    stages = dict.fromkeys(("copy", "double", "total"), "executed")
    assert first == dict.fromkeys(("prepare", "features", "pin"), "executed") | stages | {"register": "registered"}
    assert {task: log(toy, task) for task in ("features", "copy")} == {"features": "nothing new to extract", "copy": "3 values to copy"}
    again = command(toy, "retrain")
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("restored") == 3
    assert "challenger: toy/" in again.stdout
    listed = json.loads(command(toy, "runs", "--json").stdout)
    assert [(run["state"], run["tasks"]["copy"]["status"]) for run in listed] == [("registered", "restored"), ("registered", "executed")]
    for run in listed:
        page = f"http://127.0.0.1:5000/#/experiments/1/runs/{run['name']}"
        assert mlflow_buttons(toy, run["name"]) == dict.fromkeys(run["tasks"], page)
    secrets = toy.store / "airflow" / "secrets.json"
    assert secrets.stat().st_mode & 0o777 == 0o600


def test_a_wrong_param_never_reaches_airflow(toy: Any) -> None:
    done = command(toy, "retrain", "--set", "seed=many")
    assert done.returncode == 2
    assert "seed" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (toy.store / "airflow").exists()


@pytest.mark.slow
def test_a_failed_run_is_found_and_goes_on_from_where_it_failed(toy: Any) -> None:
    (toy.store / "fail").touch()
    failed = command(toy, "retrain", "--set", "seed=3")
    assert failed.returncode == 1
    message = failed.stderr.splitlines()[-1]
    assert "failed at double: double: double: told to fail, key toy" in message
    (found,) = json.loads(command(toy, "runs", "--json").stdout)
    assert (found["state"], found["failed_task"]) == ("failed", "double")
    assert f"upheld rerun {found['name']} --from double" in command(toy, "runs").stdout
    (toy.store / "fail").unlink()
    toy.values(100)
    again = command(toy, "rerun", found["name"], "--json")
    assert statuses(again) == {
        "prepare": "executed",
        "features": "unchanged",
        "pin": "unchanged",
        "copy": "restored",
        "double": "executed",
        "total": "executed",
        "register": "registered",
    }
    workspace = Path(json.loads(again.stdout)["workspace"])
    assert json.loads((workspace / "data/total.json").read_text()) == 2 * (1 + 2 + 3 + 3 * 3)
    assert json.loads((workspace / "run.json").read_text())["rerun_of"] == found["name"]


def test_rerun_of_what_is_not_there_is_bad_use(toy: Any) -> None:
    done = command(toy, "rerun", "yesterday")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "`upheld runs` lists them" in done.stderr
