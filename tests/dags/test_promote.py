"""The DAGs `promote` and `weekly_calibration` under Airflow's own servers: who answers is recorded, a no and silence change nothing."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from finished_workspaces import register_two_that_pass_and_one_that_is_held
from playwright.sync_api import Page, sync_playwright
from score_worlds import PARAMS
from weeks import deliver, tables

from feature_store import ingest
from registry import mlflow_store, promote

PATIENCE_S = 180.0  # of these tests, on a busy machine
RESPONSE_TIMEOUT_H = 120 / 3600
CHROMIUM = Path("/usr/bin/chromium")
REPOSITORY = Path(__file__).resolve().parents[2]
WEEK = "2026-W43"


class Airflow:
    """Airflow's REST API, with the DAG `promote`."""

    def __init__(self, told: dict[str, str], store: Path) -> None:
        self.address, self.login, self.store = told["airflow"], {key: told[key] for key in ("username", "password")}, store
        self.token = ""
        self.token = self.ask("POST", "/auth/token", self.login)["access_token"]

    def ask(self, method: str, path: str, body: object = None) -> Any:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"}
        data = None if body is None else json.dumps(body).encode()
        with urlopen(Request(self.address + path, data, headers, method=method)) as answer:
            return json.load(answer)

    def trigger(self, dag: str = "promote", **conf: str) -> str:
        """Path of a new run."""
        return run_path(self.ask("POST", f"/api/v2/dags/{dag}/dagRuns", {"logical_date": None, "conf": conf})["dag_run_id"], dag)

    def question(self, run: str, *, patient: bool = True) -> dict[str, Any]:
        """What the person is shown, once the task waits for an answer; where `patient`, once the scheduler knows that it does."""

        def waiting() -> Any:
            task = self.ask("GET", f"{run}/taskInstances/approve")
            known = not patient or self._heard_of(run, task["try_number"])
            return known and task["state"] == "awaiting_input" and self.ask("GET", f"{run}/taskInstances/approve/-1/hitlDetails")

        shown: dict[str, Any] = wait_for(waiting)
        return shown

    def _heard_of(self, run: str, try_number: int) -> bool:
        """Whether the scheduler has heard that the process which asked has ended; no page and no API says so, only its log.

        Airflow 3.3 fails a task that is answered before (see the retries in dags/promote.py).
        """
        ended = f"TaskInstance Finished: dag_id=promote, task_id=approve, run_id={run.rpartition('/')[2]},"
        lines = (self.store / "airflow" / "standalone.log").read_text(errors="replace").splitlines()
        return any(ended in line and f"try_number={try_number}," in line for line in lines)

    def answer(self, run: str, option: str, **said: str) -> None:
        given = {"note": None, "despite_hold": None} | said
        self.ask("PATCH", f"{run}/taskInstances/approve/-1/hitlDetails", {"chosen_options": [option], "params_input": given})

    def ended(self, run: str) -> dict[str, str]:
        """States of the run's tasks after its end, and its own."""
        state = wait_for(lambda: (state := self.ask("GET", run)["state"]) in ("success", "failed") and state)
        tasks = self.ask("GET", f"{run}/taskInstances")["task_instances"]
        return {"run": state} | {task["task_id"]: task["state"] for task in tasks}


def run_path(run_id: str, dag: str = "promote") -> str:
    return f"/api/v2/dags/{dag}/dagRuns/{run_id}"


def wait_for(happened: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            found = happened()
        except HTTPError as error:
            if error.code != 404:
                raise
            found = None
        if found:
            return found
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.5)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def champion(store: Path) -> mlflow_store.Version | None:
    return mlflow_store.by_alias(mlflow_store.connect(store), mlflow_store.MODEL, "champion")


def number(store: Path) -> int | None:
    found = champion(store)
    return found.number if found else None


@pytest.fixture(scope="module")
def airflow(toy_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    """`upheld up` on a store with three models, two of which the gate lets pass, and a week of the first one's decisions.

    Nobody waits for an answer for long.
    """
    folder = tmp_path_factory.mktemp("approval")
    root, store = folder / "repository", folder / "store"
    shutil.copytree(toy_root, root)
    params = (root / "params.yaml").read_text()
    (root / "params.yaml").write_text(params.replace("response_timeout_h: 72.0", f"response_timeout_h: {RESPONSE_TIMEOUT_H}"))
    shutil.copy(REPOSITORY / "evaluation" / "weekly.py", root / "evaluation" / "weekly.py")  # the real one again
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


def start(root: Path, store: Path) -> subprocess.Popen[str]:
    ports = ["--airflow-port", str(free_port()), "--mlflow-port", str(free_port())]
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("AIRFLOW", "UPHELD"))}
    command = [sys.executable, "-m", "registry.up", *ports, "--store", str(store), "--json"]
    return subprocess.Popen(command, cwd=root, env=inherited, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


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
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(40_000)
        approve(page, airflow, run.rpartition("/")[2], despite_hold)
        browser.close()


def approve(page: Page, airflow: Airflow, run_id: str, despite_hold: str) -> None:
    page.goto(f"{airflow.address}/auth/login/")
    page.locator("input[name=username]").fill(airflow.login["username"])
    page.locator("input[name=password]").fill(airflow.login["password"])
    page.locator("button[type=submit]").click()
    page.wait_for_url(lambda url: "/auth/login" not in url)
    page.goto(f"{airflow.address}/dags/promote/runs/{run_id}/tasks/approve/required_actions")
    page.get_by_role("heading", name="Thresholds, old → new").wait_for()
    assert page.locator("table").count() > 0
    if despite_hold:
        page.locator("#element_despite_hold").fill(despite_hold)
    page.get_by_role("button", name="Approve").click()
    page.get_by_text("admin", exact=False).first.wait_for()
