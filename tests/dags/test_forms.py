"""The trigger forms in a real browser: a person opens one, changes a value or nothing, and a run starts; and what its tasks' pages show."""

import os
import subprocess
import sys
from typing import Any

import pytest
import yaml
from airflow_servers import CHROMIUM, Airflow, page_of, run_path, wait_for
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
DAGS = ("ingest_review_outcomes", "promote", "retrain", "weekly_calibration")


@pytest.fixture
def as_before(airflow: Airflow) -> Any:
    """Schedules that a form switched on are off again, and runs that a form started have ended."""
    paused = {dag: airflow.ask("GET", f"/api/v2/dags/{dag}")["is_paused"] for dag in DAGS}
    before = {dag: runs_of(airflow, dag) for dag in DAGS}
    yield
    for dag, was in paused.items():
        airflow.ask("PATCH", f"/api/v2/dags/{dag}", {"is_paused": was})
        for run in runs_of(airflow, dag) - before[dag]:
            airflow.ask("PATCH", run_path(run, dag), {"state": "failed"})


def runs_of(airflow: Airflow, dag: str) -> set[str]:
    return {run["dag_run_id"] for run in airflow.ask("GET", f"/api/v2/dags/{dag}/dagRuns")["dag_runs"]}


def opened(page: Page, airflow: Airflow, dag: str) -> Page:
    """The page with the DAG's form."""
    page.goto(f"{airflow.address}/dags/{dag}")
    page.get_by_role("button", name="Trigger").first.click()
    page.get_by_test_id("config-form").wait_for()
    return page


def submitted(page: Page, airflow: Airflow, dag: str) -> dict[str, Any]:
    """Press Trigger in the open form; the run that came of it."""
    before = runs_of(airflow, dag)
    button = page.get_by_role("dialog").get_by_role("button", name="Trigger")
    expect(button).to_be_enabled()
    button.click()

    def started() -> Any:
        runs = airflow.ask("GET", f"/api/v2/dags/{dag}/dagRuns")["dag_runs"]
        return next((run for run in runs if run["dag_run_id"] not in before and run["run_type"] == "manual"), None)

    return dict(wait_for(started))


def test_airflow_s_own_processor_loads_every_dag_file(airflow: Airflow) -> None:
    wait_for(lambda: {dag["dag_id"] for dag in airflow.ask("GET", "/api/v2/dags")["dags"]} == set(DAGS))
    assert airflow.ask("GET", "/api/v2/importErrors") == {"import_errors": [], "total_entries": 0}


def test_the_task_log_of_a_command_line_run_is_on_its_page(airflow: Airflow) -> None:
    """Without values to pin the toy's run fails after its first tasks, which is enough to be read."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("AIRFLOW", "UPHELD"))}
    command = [sys.executable, "-m", "upheld.registry.runs.retrain", "--store", str(airflow.store)]
    done = subprocess.run(command, cwd=airflow.store.parent / "repository", env=inherited, capture_output=True, text=True)
    assert "pin: the ledger holds nothing yet" in done.stderr
    (run,) = runs_of(airflow, "retrain")
    shown = {}
    for task in ("features", "pin"):
        content = airflow.ask("GET", f"{run_path(run, 'retrain')}/taskInstances/{task}/logs/1?full_content=true")["content"]
        shown[task] = [line["event"] for line in content]
    assert "nothing new to extract" in shown["features"]
    assert shown["pin"][-1] == "pin: the ledger holds nothing yet"


@pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium")
def test_a_retrain_starts_with_what_a_person_changed(airflow: Airflow, as_before: None) -> None:
    with page_of(airflow) as page:
        form = opened(page, airflow, "retrain").get_by_test_id("config-form")
        expect(page.get_by_role("dialog").get_by_role("button", name="Trigger")).to_be_enabled()
        sections = [text for text in form.locator("h3 button, [data-part=item-trigger]").all_inner_texts() if text]
        assert sections[0] == "rerun"
        assert sections.index("seed") < sections.index("caption")
        assert "sample_data" not in sections
        form.get_by_role("button", name="seed", exact=True).click()
        form.locator("[id='number-input:element_seed'] input").fill("77")
        run = submitted(page, airflow, "retrain")
    assert run["conf"]["seed"] == 77
    workspace = airflow.store / "runs" / run["dag_run_id"].replace(":", "-").replace("+", "-")
    wait_for(lambda: airflow.ask("GET", run_path(run["dag_run_id"], "retrain"))["state"] != "queued")
    wait_for((workspace / "params.yaml").exists)
    own = yaml.safe_load((airflow.store.parent / "repository" / "params.yaml").read_text())
    assert yaml.safe_load((workspace / "params.yaml").read_text()) == own | {"seed": 77}  # no text has become null


def test_what_the_form_lacks_can_still_be_set_and_what_nobody_knows_not(airflow: Airflow, as_before: None) -> None:
    airflow.ask("PATCH", "/api/v2/dags/retrain", {"is_paused": False})
    asked: dict[str, dict[str, Any]] = {"set": {"drift.false_alarms_per_year": 2.0}, "unknown": {"drift.no_such": 1}}
    ended = {}
    for name, conf in asked.items():
        body = {"logical_date": None, "conf": conf}
        run = airflow.ask("POST", "/api/v2/dags/retrain/dagRuns", body)["dag_run_id"]
        ended[name] = airflow.ended(run_path(run, "retrain")) | {"name": run}
    assert ended["set"]["prepare"] == "success"
    workspace = airflow.store / "runs" / ended["set"]["name"].replace(":", "-").replace("+", "-")
    assert yaml.safe_load((workspace / "params.yaml").read_text())["drift"]["false_alarms_per_year"] == 2.0
    assert ended["unknown"]["prepare"] == "failed"
    links = airflow.ask("GET", f"{run_path(ended['set']['name'], 'retrain')}/taskInstances/prepare/links")["extra_links"]
    assert links == {"Run in MLflow": f"http://127.0.0.1:5000/#/experiments/1/runs/{workspace.name}"}


def test_the_log_of_a_stopped_run_says_so_in_a_line(airflow: Airflow, as_before: None) -> None:
    airflow.ask("PATCH", "/api/v2/dags/retrain", {"is_paused": False})
    (airflow.store / "hang_features").touch()
    (airflow.store / "extractions").unlink(missing_ok=True)
    run = run_path(airflow.ask("POST", "/api/v2/dags/retrain/dagRuns", {"logical_date": None})["dag_run_id"], "retrain")
    wait_for(lambda: airflow.ask("GET", run)["state"] == "running")
    wait_for((airflow.store / "extractions").exists)
    (airflow.store / "hang_features").unlink()
    airflow.ask("PATCH", run, {"state": "failed"})

    def log() -> list[dict[str, Any]]:
        lines: list[dict[str, Any]] = airflow.ask("GET", f"{run}/taskInstances/features/logs/1?full_content=true")["content"]
        return lines

    wait_for(lambda: any("stopped: a person ended this run" in str(line) for line in log()))
    assert [line for line in log() if "error_detail" in line or "Traceback" in line["event"]] == []


@pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium")
def test_the_other_forms_submit_as_they_open(airflow: Airflow, as_before: None) -> None:
    with page_of(airflow) as page:
        for dag in ("ingest_review_outcomes", "weekly_calibration", "promote"):
            run = submitted(opened(page, airflow, dag), airflow, dag)
            assert set(run["conf"].values()) == {None}
