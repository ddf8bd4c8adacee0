"""The DAGs `promote` and `weekly_calibration` under Airflow's own servers: who answers is recorded, a no and silence change nothing."""

import base64
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest
from airflow_servers import CHROMIUM, Airflow, page_of, run_path, wait_for
from playwright.sync_api import Page, expect

from upheld.registry.production import promote
from upheld.registry.tracking import mlflow_store

MOVED = {"describe": "success", "approve": "success", "approve_held": "skipped", "record": "success", "ask_again": "skipped"}
MOVED_HELD = MOVED | {"approve": "skipped", "approve_held": "success"}
ASKED_AGAIN = MOVED_HELD | {"ask_again": "success"}
WEEK = "2026-W43"


def champion(store: Path) -> mlflow_store.Version | None:
    return mlflow_store.by_alias(mlflow_store.connect(store), mlflow_store.MODEL, "champion")


def number(store: Path) -> int | None:
    found = champion(store)
    return found.number if found else None


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_only_a_yes_moves_the_alias_and_every_answer_is_recorded(airflow: Airflow) -> None:
    silent = airflow.trigger(model="2")
    asked = airflow.question(silent)
    assert asked["defaults"] == ["Reject"]
    first = airflow.trigger(model="1")
    shown = airflow.question(first)
    assert shown["subject"].startswith("Put upheld-moderation/1 with upheld-thresholds/1 into production in place of nothing?")
    assert "## Thresholds, old → new" in shown["body"]
    assert "## Posts, before → after" in shown["body"]
    (deadline,) = re.findall(r"answer before (\S+ \S+) UTC", shown["body"])
    left = datetime.strptime(deadline, "%Y-%m-%d %H:%M").replace(tzinfo=UTC) - datetime.fromisoformat(shown["created_at"])
    assert timedelta(minutes=1) <= left <= timedelta(minutes=2, seconds=1)  # to the minute, of the two that conftest.py gives
    report_opens(airflow, shown["body"])
    airflow.answer(first, "Approve", "read it; --store=elsewhere")
    assert airflow.ended(first) == {"run": "success"} | MOVED
    approved = champion(airflow.store)
    assert approved is not None
    assert (approved.number, approved.tags["upheld.approved_by"]) == (1, "admin")
    said = records(airflow.store)[-1]
    assert (said["action"], said["approver"], said["note"], said["after"]["model"]) == ("promote", "admin", "read it; --store=elsewhere", 1)

    again = airflow.trigger(model="1")
    assert airflow.ended(again) == {"run": "success"} | dict.fromkeys(MOVED, "skipped")

    rejected = airflow.trigger(model="2")
    airflow.question(rejected)
    airflow.answer(rejected, "Reject", "not on a Friday")
    assert airflow.ended(rejected) == {"run": "success"} | MOVED
    said = records(airflow.store)[-1]
    assert (said["action"], said["approver"], said["note"], said["after"]["model"]) == ("reject", "admin", "not on a Friday", 2)

    held = airflow.trigger(model="3")
    assert "HELD by the gate" in airflow.question(held, task="approve_held")["subject"]
    airflow.answer(held, "Approve", task="approve_held")  # which the page does not let through without a reason
    assert airflow.ended(held) == {"run": "success"} | ASKED_AGAIN
    assert records(airflow.store)[-1]["action"] == "refused"
    once_more = newest(airflow)
    assert "rejected, model 2 with thresholds 2, by admin: not on a Friday" in airflow.question(once_more, task="approve_held")["body"]
    airflow.answer(once_more, "Reject", "no", task="approve_held")
    assert airflow.ended(once_more) == {"run": "success"} | MOVED_HELD

    assert airflow.ended(silent) == {"run": "success"} | MOVED
    (silence,) = [item for item in records(airflow.store) if item["action"] == "timeout"]
    assert (silence["approver"], silence["after"]) == (None, {"model": 2, "thresholds": 2})
    assert number(airflow.store) == 1


def report_opens(airflow: Airflow, body: str) -> None:
    """The page that a question links answers, and the report that it shows is there."""
    (link,) = re.findall(r"\[Open the whole report\]\((\S+)\)", body)
    page = urlsplit(link)
    run_id = page.fragment.split("/runs/")[1].split("/")[0]
    known = [airflow.told.get(f"mlflow_{key}", airflow.told[key]) for key in ("username", "password")]
    login = {"Authorization": f"Basic {base64.b64encode(':'.join(known).encode()).decode()}"}
    for address in (link, f"{page.scheme}://{page.netloc}/get-artifact?path=evaluation/report.html&run_uuid={run_id}"):
        with urlopen(Request(address.partition("#")[0], headers=login)) as found:
            assert found.status == 200
            content = found.read()
    assert b"<h1>Hold</h1>" in content


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_announced_challenger_is_asked_about_and_a_stale_yes_is_asked_again(airflow: Airflow) -> None:
    (asset,) = [item for item in airflow.ask("GET", "/api/v2/assets")["assets"] if item["name"] == "challenger"]
    airflow.ask("POST", "/api/v2/assets/events", {"asset_id": asset["id"]})

    def nudged() -> Any:
        runs = airflow.ask("GET", "/api/v2/dags/promote/dagRuns?limit=100")["dag_runs"]
        return next((run["dag_run_id"] for run in runs if run["run_type"] == "asset_triggered"), None)

    run = run_path(wait_for(nudged))
    assert "upheld-moderation/3" in airflow.question(run, task="approve_held")["subject"]
    before = number(airflow.store)
    meanwhile = "2" if before != 2 else "1"
    assert promote.main(["--model", meanwhile, "--approver", "Ada", "--store", str(airflow.store)]) == 0
    airflow.answer(run, "Approve", "it is urgent", task="approve_held")
    assert airflow.ended(run) == {"run": "success"} | ASKED_AGAIN
    assert number(airflow.store) == int(meanwhile)
    said = records(airflow.store)[-1]
    assert (said["action"], said["approver"]) == ("refused", "admin")
    assert f"but now model {meanwhile} with thresholds" in said["note"]
    again = newest(airflow)
    assert f"in place of model {meanwhile} with" in airflow.question(again, task="approve_held")["subject"]
    airflow.answer(again, "Reject", "seen too late", task="approve_held")
    airflow.ended(again)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_answer_that_comes_too_soon_is_asked_for_again_at_worst(airflow: Airflow) -> None:
    model = "1" if number(airflow.store) == 2 else "2"
    run = airflow.trigger(model=model)
    airflow.question(run, patient=False)
    airflow.answer(run, "Approve", "at once")

    def over() -> Any:
        return (
            airflow.ask("GET", run)["state"] in ("success", "failed")
            or airflow.ask("GET", f"{run}/taskInstances/approve")["try_number"] > 1
        )

    wait_for(over)
    if airflow.ask("GET", run)["state"] == "running":
        airflow.question(run)
        airflow.answer(run, "Approve", "asked again")
    assert airflow.ended(run)["record"] == "success"
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
    held = "HELD" in wait_for(lambda: proposal_of(airflow, run))["subject"]
    task = "approve_held" if held else "approve"
    shown = airflow.question(run, task=task)
    assert f"upheld-thresholds/{told['thresholds']} for the champion upheld-moderation/1" in shown["subject"]
    first_screen = (airflow.store / "weekly" / WEEK / folder_of(airflow.store) / "first_screen.md").read_text()
    assert first_screen.splitlines()[2] in shown["body"]
    assert "/artifacts/evaluation/report.html)" in shown["body"]
    again = airflow.trigger("weekly_calibration", week=WEEK)
    assert airflow.ended(again)["ask"] == "skipped"
    with page_of(airflow) as page:
        open_question(airflow, page, run, task)
        if held:
            page.locator("#element_reason").fill("one week alone")
        answer(page, "Approve")
    assert airflow.ended(run)["record"] == "success"
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
    with page_of(airflow) as page:
        open_question(airflow, page, run, "approve")
        page.get_by_text("Why do you decide so?").wait_for()
        answer(page, "Approve")
    assert airflow.ended(run) == {"run": "success"} | MOVED
    approved = champion(airflow.store)
    assert approved is not None
    assert (approved.number, approved.tags["upheld.approved_by"]) == (int(model), "admin")


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium")
def test_a_held_model_is_approved_in_the_browser_with_a_reason_alone(airflow: Airflow) -> None:
    before = number(airflow.store)
    run = airflow.trigger(model="3")
    assert "HELD by the gate" in airflow.question(run, task="approve_held")["subject"]
    with page_of(airflow) as page:
        page.set_viewport_size({"width": 1440, "height": 900})
        open_question(airflow, page, run, "approve_held")
        page.get_by_text("Why do you decide so, although or because the gate holds this?").wait_for()
        for option in ("Approve", "Reject"):
            expect(page.get_by_test_id(f"hitl-option-{option}")).to_be_disabled()
        page.locator("#element_reason").fill("because")
        answer(page, "Approve")
    assert airflow.ended(run) == {"run": "success"} | ASKED_AGAIN
    assert number(airflow.store) == before
    refused = records(airflow.store)[-1]
    assert (refused["action"], refused["after"], refused["approver"]) == ("refused", {"model": 3, "thresholds": 3}, "admin")
    again = newest(airflow)
    shown = airflow.question(again, task="approve_held")
    assert "approved, but not carried out, model 3 with thresholds 3, by admin: because; the reason has 7 characters" in shown["body"]
    with page_of(airflow) as page:
        open_question(airflow, page, again, "approve_held")
        page.locator("#element_reason").fill("the old one is down")
        answer(page, "Approve")
    assert airflow.ended(again) == {"run": "success"} | MOVED_HELD
    said = records(airflow.store)[-1]
    assert (said["action"], said["approver"], said["despite_hold"], said["gate"]) == ("promote", "admin", "the old one is down", "hold")
    assert number(airflow.store) == 3


def records(store: Path) -> list[dict[str, Any]]:
    """The record of approvals as it lies on disk."""
    return [json.loads(path.read_text()) for path in sorted((store / "approvals").glob("*.json"))]


def newest(airflow: Airflow) -> str:
    """The run of `promote` that was started last."""
    return run_path(airflow.ask("GET", "/api/v2/dags/promote/dagRuns?order_by=-run_after&limit=1")["dag_runs"][0]["dag_run_id"])


def proposal_of(airflow: Airflow, run: str) -> Any:
    """What the task `describe` found."""
    return airflow.ask("GET", f"{run}/taskInstances/describe/xcomEntries/proposal?deserialize=true")["value"]


def open_question(airflow: Airflow, page: Page, run: str, task: str) -> None:
    """Go to the page of a question and read it."""
    page.goto(f"{airflow.address}/dags/promote/runs/{run.rpartition('/')[2]}/tasks/{task}/required_actions")
    page.get_by_role("heading", name="Thresholds, old → new").wait_for()
    assert page.locator("table").count() > 0


def answer(page: Page, option: str) -> None:
    """Press one of the two buttons, and wait until the page says who answered."""
    page.get_by_test_id(f"hitl-option-{option}").click()
    page.get_by_text("from admin", exact=False).first.wait_for()
