"""`upheld runs` and how `upheld rerun` finds a run: names are whole, and a beginning is enough."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from upheld.common.errors import BadUse
from upheld.registry.runs import history as runs
from upheld.registry.runs import retrain

NAMES = ("manual__2026-10-05T03-00-00.123456-00-00", "manual__2026-10-12T03-00-00.123456-00-00", "scheduled__2026-10-12T03-00-00-00-00")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    for number, name in enumerate(NAMES):
        results = tmp_path / "runs" / name / "results"
        results.mkdir(parents=True)
        (results.parent / "run.json").write_text(json.dumps({"created_at": f"2026-10-1{number}T03:00:12+00:00"}))
        (results / "prepare.json").write_text(json.dumps({"status": "executed", "started_at": 1}))
    failed = {"status": "failed", "started_at": 2, "error": "out of memory"}
    (tmp_path / "runs" / NAMES[0] / "results" / "logo_evaluate.json").write_text(json.dumps(failed))
    failure = {"task": "logo_evaluate", "message": "out of memory", "exit_code": 1}
    (tmp_path / "runs" / NAMES[0] / "failure.json").write_text(json.dumps(failure))
    registered = {"status": "registered", "started_at": 2, "model": "upheld-moderation/12", "thresholds": "upheld-thresholds/15"}
    (tmp_path / "runs" / NAMES[1] / "results" / "register.json").write_text(json.dumps(registered))
    return tmp_path


@pytest.mark.parametrize("columns", ["80", "40"])
def test_every_name_is_whole_with_state_version_and_where_it_stopped(store: Path, columns: str) -> None:
    command = [sys.executable, "-m", "upheld.registry.runs.history", "--store", str(store)]
    done = subprocess.run(command, env={"COLUMNS": columns}, cwd=Path(__file__).parents[3], capture_output=True, text=True, check=True)
    table = [line.split() for line in done.stdout.splitlines()[:4]]
    assert table == [
        ["run", "made", "state", "version", "stopped", "at"],
        [NAMES[2], "2026-10-12", "03:00", "unfinished"],
        [NAMES[1], "2026-10-11", "03:00", "registered", "12"],
        [NAMES[0], "2026-10-10", "03:00", "failed", "logo_evaluate"],
    ]
    assert f"upheld rerun {NAMES[0]} --from logo_evaluate" in done.stdout


def test_the_beginning_of_a_name_is_enough_where_no_other_run_shares_it(store: Path) -> None:
    for reference, meant in ((NAMES[1], 1), ("manual__2026-10-12", 1), ("sch", 2)):
        assert runs.folder(store, reference).name == NAMES[meant]
    (store / "runs" / "manual__2026").mkdir()
    (store / "runs" / "manual__2026" / "run.json").touch()
    assert runs.folder(store, "manual__2026").name == "manual__2026"  # a whole name, though others begin with it


@pytest.mark.parametrize("reference", ["manual__", "", "none", "../runs", "*"])
def test_what_names_no_run_or_several_is_refused(store: Path, reference: str) -> None:
    with pytest.raises(BadUse) as refusal:
        runs.folder(store, reference)
    assert [name in str(refusal.value) for name in NAMES] == [reference == "manual__", reference == "manual__", False]


def test_what_differs_for_the_form_starts_from_the_store_s_own_params(tmp_path: Path) -> None:
    params = Path(__file__).parents[3] / "params.yaml"
    assert retrain.changed(params, [], tmp_path) == {}
    (tmp_path / "params.yaml").write_text("logo: {epochs: 4}\n")
    assert retrain.changed(params, [], tmp_path) == {"logo.epochs": 4}
    assert retrain.changed(params, ["logo.epochs=8", "text.epochs=9"], tmp_path) == {"logo.epochs": 8, "text.epochs": 9}
