"""The DAG files as Airflow itself loads them; test_forms.py asks a running Airflow whether it did."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from import_closure import closure, source

from upheld.dags.runner import run_stage
from upheld.feature_store.extractors import catalogue

REPOSITORY = Path(__file__).resolve().parents[2]
DAGS = ("ingest_review_outcomes", "promote", "retrain", "weekly_calibration")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What inspect_dags.py says of our DAG files."""
    home, out = tmp_path_factory.mktemp("airflow"), tmp_path_factory.mktemp("loaded") / "dags.json"
    settings = {"CORE__DAGS_FOLDER": str(REPOSITORY / "dags"), "CORE__LOAD_EXAMPLES": "False"}
    environment = os.environ | {"AIRFLOW_HOME": str(home)} | {f"AIRFLOW__{key}": value for key, value in settings.items()}
    script = str(Path(__file__).with_name("inspect_dags.py"))
    subprocess.run([sys.executable, script, str(REPOSITORY / "dags"), str(out)], env=environment, check=True, capture_output=True)
    return json.loads(out.read_text())


def test_every_dag_file_loads_in_under_a_second(loaded: dict[str, Any]) -> None:
    assert loaded["errors"] == {}
    assert set(loaded["dags"]) == set(DAGS)
    assert max(loaded["seconds"].values()) < 1


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


def test_the_form_has_what_its_tasks_read_rerun_first(loaded: dict[str, Any]) -> None:
    form = loaded["dags"]["retrain"]["form"]
    raw = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    stages = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"].values()
    assert list(form)[:2] == ["rerun_of", "from_stage"]
    read = {name.partition(".")[0] for stage in stages for name in stage["params"]} | {name.partition(".")[0] for name in features_read()}
    assert {field["schema"]["section"] for field in form.values()} == {"rerun"} | read
    assert {key for key in form if key.startswith("ingest.")} == {"ingest.max_media_pixels"}
    whole = {f"{name}.{key}" for name in read - {"ingest"} if isinstance(raw[name], dict) for key in raw[name]}
    assert {key for key in whole if not any(shown == key or shown.startswith(f"{key}.") for shown in form)} == set()


def test_what_features_and_pin_read_is_what_the_form_takes_for_it() -> None:
    read, listed = features_read(), set(run_stage.FEATURE_PARAMS)
    keys = {name for name in listed if "." in name}
    sections = {name.partition(".")[0] for name in keys}
    assert {name.partition(".")[0] for name in read} - sections == listed - keys
    assert {name for name in read if name.partition(".")[0] in sections} == keys


def features_read() -> set[str]:
    """`section.key`, or `section` where it is passed on as a whole: all that feature extraction and pinning name of the parameters."""
    modules = [
        "upheld.feature_store.extraction.command",
        "upheld.registry.runs.pin",
        *(path.partition(":")[0] for path in catalogue.EXTRACTORS.values()),
    ]
    raw = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    found = set()
    for file in set().union(*(closure(source(module)) for module in modules)):
        attributes = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Attribute)]
        below = {id(node.value): node.attr for node in attributes}
        for node in attributes:
            if node.attr in raw and ast.unparse(node.value).split(".")[-1] in ("params", "parameters", "checked"):
                key = below.get(id(node))
                found.add(f"{node.attr}.{key}" if isinstance(raw[node.attr], dict) and key in raw[node.attr] else node.attr)
    return found


@pytest.mark.parametrize("dag", DAGS)
def test_a_form_can_be_submitted_as_it_opens(loaded: dict[str, Any], dag: str) -> None:
    """Airflow's page takes null, nothing and an empty text for a field not filled in; the types say whether it may stay so."""
    form = loaded["dags"][dag]["form"]
    assert form
    assert {key: field["refusal"] for key, field in form.items() if field["refusal"]} == {}
    required = {key: field["default"] for key, field in form.items() if "null" not in field["schema"]["type"]}
    assert [key for key, default in required.items() if default in (None, "")] == []


def test_lists_of_numbers_stay_numbers_in_the_form(loaded: dict[str, Any]) -> None:
    form = loaded["dags"]["retrain"]["form"]
    assert form["audio.channels"]["schema"] == {"type": "array", "items": {"type": "integer"}, "section": "audio"}
    assert form["logo_compose.mark_share"]["schema"]["items"] == {"type": "number"}
    assert form["policies"]["schema"]["items"] == {"type": "string"}
    assert form["seed"]["schema"]["type"] == "integer"


@pytest.mark.parametrize("dag", DAGS)
def test_every_dag_says_whose_it_is_what_it_does_and_when(loaded: dict[str, Any], dag: str) -> None:
    told = loaded["dags"][dag]
    assert told["owners"] in (["ml-engineering"], ["trust-and-safety"])
    assert told["name"] not in ("", dag)
    when = {"0 3 * * 1": "Mondays 03:00 UTC", "0 6 * * 1": "Mondays 06:00 UTC", "@daily": "Every day 00:00 UTC"}
    assert when.get(told["schedule"], "Whenever one is announced") in told["description"]


@pytest.mark.parametrize(("week", "fits"), [("2026-W43", True), ("2026-W43\n", False), ("2026-43", False)])
def test_a_week_is_a_week_and_nothing_more(loaded: dict[str, Any], week: str, fits: bool) -> None:
    schema = loaded["dags"]["weekly_calibration"]["form"]["week"]["schema"]
    assert jsonschema.Draft202012Validator(schema).is_valid(week) == fits


def test_schedules_and_assets(loaded: dict[str, Any]) -> None:
    retrain, ingest = loaded["dags"]["retrain"], loaded["dags"]["ingest_review_outcomes"]
    assert retrain["schedule"] == "0 3 * * 1"
    assert retrain["outlets"] == {"register": ["upheld://registry/upheld-moderation/challenger"]}
    assert ingest["schedule"] == "@daily"
    assert ingest["outlets"] == {"ingest": ["upheld://store/ledger"]}
    weekly = loaded["dags"]["weekly_calibration"]
    assert weekly["schedule"] == "0 6 * * 1"
    assert weekly["edges"] == [["propose", "ask"], ["report", "propose"]]
    assert {key: field["schema"]["type"] for key, field in weekly["form"].items()} == {"week": ["null", "string"]}


def test_approval_stands_between_describing_and_applying(loaded: dict[str, Any]) -> None:
    promote = loaded["dags"]["promote"]
    questions = ("approve", "approve_held")
    asked = [edge for question in questions for edge in (["describe", question], [question, "record"])]
    assert promote["edges"] == sorted([*asked, ["record", "ask_again"]])
    assert promote["tasks"]["record"]["rule"] == "none_failed_min_one_success"  # whatever was answered, and to whichever question
    assert "upheld://registry/upheld-moderation/challenger" in promote["schedule"]
