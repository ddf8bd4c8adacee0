"""Airflow's own servers for tests: started by `upheld up`, asked through the REST API, and used in a real browser."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from playwright.sync_api import Page, sync_playwright

PATIENCE_S = 180.0  # of these tests, on a busy machine
CHROMIUM = Path("/usr/bin/chromium")


class Airflow:
    """Airflow's REST API, with the DAG `promote`."""

    def __init__(self, told: dict[str, str], store: Path) -> None:
        self.address, self.login, self.store = told["airflow"], {key: told[key] for key in ("username", "password")}, store
        self.told = told
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

    def question(self, run: str, *, task: str = "approve", patient: bool = True) -> dict[str, Any]:
        """What the person is shown, once the task waits for an answer; where `patient`, once the scheduler knows that it does."""

        def waiting() -> Any:
            found = self.ask("GET", f"{run}/taskInstances/{task}")
            known = not patient or self._heard_of(run, task, found["try_number"])
            return known and found["state"] == "awaiting_input" and self.ask("GET", f"{run}/taskInstances/{task}/-1/hitlDetails")

        shown: dict[str, Any] = wait_for(waiting)
        return shown

    def _heard_of(self, run: str, task: str, try_number: int) -> bool:
        """Whether the scheduler has heard that the process which asked has ended; no page and no API says so, only its log.

        Airflow 3.3 fails a task that is answered before (see the retries in dags/promote.py).
        """
        ended = f"TaskInstance Finished: dag_id=promote, task_id={task}, run_id={run.rpartition('/')[2]},"
        lines = (self.store / "airflow" / "scheduler.log").read_text(errors="replace").splitlines()
        return any(ended in line and f"try_number={try_number}," in line for line in lines)

    def answer(self, run: str, option: str, said: str | None = None, task: str = "approve") -> None:
        """Answer, with what stands in the question's only field."""
        given = {"note" if task == "approve" else "reason": said}
        self.ask("PATCH", f"{run}/taskInstances/{task}/-1/hitlDetails", {"chosen_options": [option], "params_input": given})

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


def start(root: Path, store: Path) -> subprocess.Popen[str]:
    ports = ["--airflow-port", str(free_port()), "--mlflow-port", str(free_port())]
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("AIRFLOW", "UPHELD"))}
    command = [sys.executable, "-m", "upheld.registry.servers.up", *ports, "--store", str(store), "--json"]
    return subprocess.Popen(command, cwd=root, env=inherited, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@contextmanager
def page_of(airflow: Airflow) -> Iterator[Page]:
    """A page of a real browser, logged in."""
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(40_000)
        page.goto(f"{airflow.address}/auth/login/")
        page.locator("input[name=username]").fill(airflow.login["username"])
        page.locator("input[name=password]").fill(airflow.login["password"])
        page.locator("button[type=submit]").click()
        page.wait_for_url(lambda url: "/auth/login" not in url)
        yield page
        browser.close()
