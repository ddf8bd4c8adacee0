"""The DAGs `promote` and `weekly_calibration` under Airflow's own servers: who answers is recorded, a no and silence change nothing."""

import json
from pathlib import Path
from typing import Any

import pytest
from airflow_servers import CHROMIUM, Airflow, page_of, run_path, wait_for

from registry import mlflow_store, promote

WEEK = "2026-W43"


def champion(store: Path) -> mlflow_store.Version | None:
    return mlflow_store.by_alias(mlflow_store.connect(store), mlflow_store.MODEL, "champion")


def number(store: Path) -> int | None:
    found = champion(store)
    return found.number if found else None


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_only_a_yes_moves_the_alias_and_says_whose_it_was(airflow: Airflow) -> None:
    silent = airflow.trigger(model="2")
    assert airflow.question(silent)["defaults"] == ["Reject"]
    first = airflow.trigger(model="1")
    shown = airflow.question(first)
    assert shown["subject"].startswith("Put upheld-moderation/1 with upheld-thresholds/1 into production in place of nothing?")
    assert "## Thresholds, old → new" in shown["body"]
    assert "/artifacts/evaluation/report.html)" in shown["body"]
    airflow.answer(first, "Approve", note="read it; --store=elsewhere")
    assert airflow.ended(first) == {"run": "success", "describe": "success", "approve": "success", "apply": "success"}
    approved = champion(airflow.store)
    assert approved is not None
    assert (approved.number, approved.tags["upheld.approved_by"]) == (1, "admin")
    assert approved.tags["upheld.approval_note"] == "read it; --store=elsewhere"

    again = airflow.trigger(model="1")
    assert airflow.ended(again) == {"run": "success", "describe": "skipped", "approve": "skipped", "apply": "skipped"}

    rejected = airflow.trigger(model="2")
    airflow.question(rejected)
    airflow.answer(rejected, "Reject")
    assert airflow.ended(rejected) == {"run": "success", "describe": "success", "approve": "success", "apply": "skipped"}

    held = airflow.trigger(model="3")
    assert "HELD by the gate" in airflow.question(held)["subject"]
    airflow.answer(held, "Approve")
    assert airflow.ended(held)["apply"] == "failed"

    assert airflow.ended(silent) == {"run": "success", "describe": "success", "approve": "success", "apply": "skipped"}
    assert number(airflow.store) == 1


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_announced_challenger_is_asked_about_and_a_stale_yes_does_not_count(airflow: Airflow) -> None:
    (asset,) = [item for item in airflow.ask("GET", "/api/v2/assets")["assets"] if item["name"] == "challenger"]
    airflow.ask("POST", "/api/v2/assets/events", {"asset_id": asset["id"]})

    def nudged() -> Any:
        runs = airflow.ask("GET", "/api/v2/dags/promote/dagRuns")["dag_runs"]
        return next((run["dag_run_id"] for run in runs if run["run_type"] == "asset_triggered"), None)

    run = run_path(wait_for(nudged))
    assert "upheld-moderation/3" in airflow.question(run)["subject"]
    before = number(airflow.store)
    meanwhile = "2" if before != 2 else "1"
    assert promote.main(["--model", meanwhile, "--approver", "Ada", "--store", str(airflow.store)]) == 0
    airflow.answer(run, "Approve", despite_hold="urgent")
    assert airflow.ended(run)["apply"] == "failed"
    assert number(airflow.store) == int(meanwhile)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_answer_that_comes_too_soon_is_asked_for_again_at_worst(airflow: Airflow) -> None:
    model = "1" if number(airflow.store) == 2 else "2"
    run = airflow.trigger(model=model)
    airflow.question(run, patient=False)
    airflow.answer(run, "Approve", note="at once")

    def over() -> Any:
        return (
            airflow.ask("GET", run)["state"] in ("success", "failed")
            or airflow.ask("GET", f"{run}/taskInstances/approve")["try_number"] > 1
        )

    wait_for(over)
    if airflow.ask("GET", run)["state"] == "running":
        airflow.question(run)
        airflow.answer(run, "Approve", note="asked again")
    assert airflow.ended(run)["apply"] == "success"
    assert number(airflow.store) == int(model)


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium")
def test_a_weeks_thresholds_are_approved_in_the_browser_and_asked_about_once(airflow: Airflow) -> None:
    promote.main(["--model", "1", "--thresholds", "1", "--approver", "Ada", "--store", str(airflow.store)])
    week = airflow.trigger("weekly_calibration", week=WEEK)
    assert airflow.ended(week) == {"run": "success", "report": "success", "propose": "success", "ask": "success"}
    told = airflow.ask("GET", f"{week}/taskInstances/propose/xcomEntries/return_value?deserialize=true")["value"]
    run = run_path(f"thresholds-{told['thresholds']}")
    shown = airflow.question(run)
    assert f"upheld-thresholds/{told['thresholds']} for the champion upheld-moderation/1" in shown["subject"]
    first_screen = (airflow.store / "weekly" / WEEK / folder_of(airflow.store) / "report.md").read_text().partition("\n## Summary")[0]
    assert first_screen.splitlines()[2] in shown["body"]
    assert "/artifacts/evaluation/report.html)" in shown["body"]
    again = airflow.trigger("weekly_calibration", week=WEEK)
    assert airflow.ended(again)["ask"] == "skipped"
    in_browser(airflow, run, despite_hold="one week alone" if "HELD" in shown["subject"] else "")
    assert airflow.ended(run)["apply"] == "success"
    in_force = mlflow_store.by_alias(mlflow_store.connect(airflow.store), mlflow_store.THRESHOLDS, "champion")
    assert in_force is not None
    assert (str(in_force.number), in_force.tags["upheld.approved_by"]) == (told["thresholds"], "admin")
    assert number(airflow.store) == 1


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_week_that_proposes_nothing_asks_nobody(airflow: Airflow) -> None:
    promote.main(["--model", "2", "--approver", "Ada", "--store", str(airflow.store)])  # which did not serve in the week
    before = airflow.ask("GET", "/api/v2/dags/promote/dagRuns")["total_entries"]
    run = airflow.trigger("weekly_calibration", week=WEEK)
    assert airflow.ended(run) == {"run": "success", "report": "success", "propose": "skipped", "ask": "skipped"}
    assert "did not serve" in airflow.ask("GET", f"{run}/taskInstances/propose/xcomEntries/return_value?deserialize=true")["value"]["why"]
    assert airflow.ask("GET", "/api/v2/dags/promote/dagRuns")["total_entries"] == before


def folder_of(store: Path) -> str:
    """Folder of the only model of the week's report."""
    (one,) = json.loads((store / "weekly" / WEEK / "weekly.json").read_text())["models"]
    return str(one["folder"])


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium")
def test_a_person_approves_in_the_browser(airflow: Airflow) -> None:
    model = "1" if number(airflow.store) == 2 else "2"
    run = airflow.trigger(model=model, thresholds=model)  # those that it was born with, which the gate lets pass
    airflow.question(run)
    in_browser(airflow, run)
    assert airflow.ended(run)["apply"] == "success"
    approved = champion(airflow.store)
    assert approved is not None
    assert (approved.number, approved.tags["upheld.approved_by"]) == (int(model), "admin")


def in_browser(airflow: Airflow, run: str, despite_hold: str = "") -> None:
    """Log in, read the question of a run and approve."""
    with page_of(airflow) as page:
        page.goto(f"{airflow.address}/dags/promote/runs/{run.rpartition('/')[2]}/tasks/approve/required_actions")
        page.get_by_role("heading", name="Thresholds, old → new").wait_for()
        assert page.locator("table").count() > 0
        if despite_hold:
            page.locator("#element_despite_hold").fill(despite_hold)
        page.get_by_role("button", name="Approve").click()
        page.get_by_text("admin", exact=False).first.wait_for()
