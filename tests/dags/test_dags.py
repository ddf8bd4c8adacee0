"""The DAG files as Airflow itself loads them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
DAGS = ("ingest_review_outcomes", "promote", "retrain", "weekly_calibration")


@pytest.fixture(scope="module")
def airflow_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    home = tmp_path_factory.mktemp("airflow")
    settings = {"CORE__DAGS_FOLDER": str(REPOSITORY / "dags"), "CORE__LOAD_EXAMPLES": "False"}
    return os.environ | {"AIRFLOW_HOME": str(home)} | {f"AIRFLOW__{key}": value for key, value in settings.items()}


@pytest.fixture(scope="module")
def loaded(airflow_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What inspect_dags.py says of our DAG files."""
    out = tmp_path_factory.mktemp("loaded") / "dags.json"
    script = str(Path(__file__).with_name("inspect_dags.py"))
    subprocess.run([sys.executable, script, str(REPOSITORY / "dags"), str(out)], env=airflow_environment, check=True, capture_output=True)
    return json.loads(out.read_text())


def test_every_dag_file_loads_in_under_a_second(loaded: dict[str, Any]) -> None:
    assert loaded["errors"] == {}
    assert set(loaded["dags"]) == set(DAGS)
    assert max(loaded["seconds"].values()) < 1


def test_airflow_lists_no_import_errors(airflow_environment: dict[str, str]) -> None:
    def airflow(*arguments: str) -> str:
        command = [sys.executable, "-m", "airflow", *arguments]
        return subprocess.run(command, env=airflow_environment, check=True, capture_output=True, text=True).stdout

    airflow("db", "migrate")
    airflow("dags", "reserialize")
    assert "No data found" in airflow("dags", "list-import-errors")


def test_edges_are_outs_among_deps_between_pinning_and_registering(loaded: dict[str, Any]) -> None:
    raw = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]
    between = [[a, b] for a, before in raw.items() for b, after in raw.items() if set(before["outs"]) & set(after["deps"])]
    before = [["features", "pin"], ["prepare", "features"]]
    first = [["pin", name] for name in raw if not any(edge[1] == name for edge in between)]
    last = [[name, "register"] for name in raw if not any(edge[0] == name for edge in between)]
    assert loaded["dags"]["retrain"]["edges"] == sorted(before + between + first + last)


def test_stage_tasks_carry_the_meta_of_their_stage(loaded: dict[str, Any]) -> None:
    raw = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]
    tasks = loaded["dags"]["retrain"]["tasks"]
    for name, stage in raw.items():
        assert tasks[name] == {"rule": "none_failed", **stage["meta"]}
    assert tasks["register"]["rule"] == "none_failed"


def test_the_form_has_every_param_with_its_type(loaded: dict[str, Any]) -> None:
    form = loaded["dags"]["retrain"]["form"]
    raw = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    assert form["seed"] == "integer"
    assert form["policies"] == "array"
    sections = {key.partition(".")[0] for key in form}
    assert sections == set(raw) | {"rerun_of", "from_stage"}
    leaves = {f"{name}.{key}" for name, section in raw.items() if isinstance(section, dict) for key in section}
    assert {key for key in leaves if key not in form} == {
        f"{name}.{key}"
        for name, section in raw.items()
        if isinstance(section, dict)
        for key, value in section.items()
        if isinstance(value, dict) and value
    }


def test_schedules_and_assets(loaded: dict[str, Any]) -> None:
    retrain, ingest = loaded["dags"]["retrain"], loaded["dags"]["ingest_review_outcomes"]
    assert retrain["schedule"] == "0 3 * * 1"
    assert retrain["outlets"] == {"register": ["upheld://registry/upheld-moderation/challenger"]}
    assert ingest["schedule"] == "@daily"
    assert ingest["outlets"] == {"ingest": ["upheld://store/ledger"]}
    weekly = loaded["dags"]["weekly_calibration"]
    assert weekly["schedule"] == "0 6 * * 1"
    assert weekly["edges"] == [["propose", "ask"], ["report", "propose"]]
    assert weekly["form"] == {"week": ["null", "string"]}


def test_approval_stands_between_describing_and_applying(loaded: dict[str, Any]) -> None:
    promote = loaded["dags"]["promote"]
    questions = ("approve", "approve_held")
    asked = [edge for question in questions for edge in (["describe", question], [question, "record"])]
    assert promote["edges"] == sorted([*asked, ["record", "ask_again"]])
    assert promote["tasks"]["record"]["rule"] == "none_failed_min_one_success"  # whatever was answered, and to whichever question
    assert "upheld://registry/upheld-moderation/challenger" in promote["schedule"]
