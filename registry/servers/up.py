"""Start Airflow with our DAGs and the MLflow pages, on this machine alone, until interrupted.

usage: upheld up --store store [--on]
"""

import fcntl
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from upheld import ROOT
from upheld.common import files
from upheld.common.command import STORE_FOLDER, AsJson, StoreFolder, command
from upheld.common.errors import FailedWork
from upheld.common.terminal import console
from upheld.registry.servers import airflow_server, processes
from upheld.registry.servers.processes import HOST, Server
from upheld.registry.tracking import mlflow_store

USER = "admin"
START_TIMEOUT_S = 300.0
POLL_S = 0.5
# What `airflow standalone` starts, without its two log servers, which listen to everybody: the logs are files of this machine.
AIRFLOW = (("api-server",), ("dag-processor",), ("triggerer", "--skip-serve-logs"), ("scheduler", "--skip-serve-logs"))
SCHEDULED = {"ingest_review_outcomes", "promote", "retrain", "weekly_calibration"}  # Airflow is ready once it has read these DAGs
MLFLOW_SETTINGS = """[mlflow]
default_permission = NO_PERMISSIONS
database_uri = sqlite:///{database}
admin_username = {username}
"""


def run(store: Path, airflow_port: int, mlflow_port: int, on: bool, as_json: bool) -> None:
    """Start both, tell where they are, wait for an interrupt or for one of them to end, stop both.

    Args:
        store: folder with ledger, registry, runs and caches; Airflow's home and logs come under it.
        airflow_port: loopback port of Airflow.
        mlflow_port: loopback port of MLflow.
        on: switch every paused DAG on, also where both run already.
        as_json: tell in JSON.

    Raises:
        FailedWork: a port is taken, or a server ended; the message names its log.
    """
    environment = airflow_server.environment(store)
    home = airflow_server.home(store)
    login = _login(home / "passwords.json")
    with (home / "up.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel frees it when its holder ends in any way
        except BlockingIOError as error:
            if not (home / "up.json").exists():
                raise FailedWork("another `upheld up` is just starting on this store; ask again in a minute") from error
            found: dict[str, Any] = json.loads((home / "up.json").read_text(encoding="utf-8"))
            dags = _dags(int(found["airflow"].rpartition(":")[2]), login, on)
            _tell(found | login | {"dags": dags, "already_running": True}, as_json)
            return
        (home / "up.json").unlink(missing_ok=True)  # of an earlier start
        for name, port in (("airflow", airflow_port), ("mlflow", mlflow_port)):
            processes.refuse_taken(name, port)
        addresses = {"airflow": f"http://{HOST}:{airflow_port}", "mlflow": f"http://{HOST}:{mlflow_port}"}
        environment |= {
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight more processes, for jobs that nobody here starts
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "UPHELD_MLFLOW_PAGES": addresses["mlflow"],  # for links to reports
            "AIRFLOW__API__PORT": str(airflow_port),
            "AIRFLOW__API__BASE_URL": addresses["airflow"],
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{addresses['airflow']}/execution/",
            "AIRFLOW__CORE__AUTH_MANAGER": "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
        }
        with _interruptible(), ExitStack() as stack:
            started = _start(store, mlflow_port, environment, login, stack)
            deadline = time.monotonic() + START_TIMEOUT_S
            with console().status("starting Airflow and MLflow"):
                while not (
                    processes.ask(mlflow_port, "GET", "/health") is not None
                    and {dag["dag"] for dag in airflow_server.list_dags(airflow_port, login)} >= SCHEDULED
                ):
                    processes.refuse_ended(started)
                    if time.monotonic() > deadline:
                        logs = " and ".join(str(server.log) for server in started)
                        raise FailedWork(f"not ready after {START_TIMEOUT_S:.0f} s; see {logs}")
                    time.sleep(POLL_S)
            files.write_json(home / "up.json", addresses | {"pid": os.getpid()})
            _tell(addresses | login | {"dags": _dags(airflow_port, login, on)}, as_json)
            while True:
                processes.refuse_ended(started)
                time.sleep(POLL_S)


def _start(store: Path, mlflow_port: int, environment: Mapping[str, str], login: Mapping[str, str], stack: ExitStack) -> list[Server]:
    """Database first, then all servers at once."""
    home, pages = airflow_server.home(store), store.absolute() / "mlflow"
    pages.mkdir(exist_ok=True)
    pages.chmod(0o700)
    with (home / "database.log").open("wb") as log:
        made = subprocess.run(
            [sys.executable, "-m", "upheld.dags.runner.run_now", "database"], cwd=ROOT, env=environment, stdout=log, stderr=log
        )
    if made.returncode:
        raise FailedWork(f"Airflow's database cannot be prepared; see {home / 'database.log'}")
    started = [
        stack.enter_context(
            processes.running(argv[0], [sys.executable, "-m", "airflow", *argv], ROOT, environment, home / f"{argv[0]}.log")
        )
        for argv in AIRFLOW
    ]
    mlflow = ["mlflow", "server", "--host", HOST, "--port", str(mlflow_port), "--workers", "1", "--no-serve-artifacts"]
    mlflow += ["--backend-store-uri", mlflow_store.tracking_uri(store), "--default-artifact-root", (pages / "artifacts").as_uri()]
    mlflow += ["--app-name", "basic-auth"]
    # MLflow knows Airflow's user alone; its table of users, which would keep an earlier password, is made anew.
    users = pages / "users.db"
    for path in pages.glob(f"{users.name}*"):
        path.unlink()
    settings = MLFLOW_SETTINGS.format(database=str(users).replace("%", "%%"), username=login["username"])
    files.write_text(pages / "login.ini", settings)
    environment = dict(environment) | {
        "MLFLOW_AUTH_CONFIG_PATH": str(pages / "login.ini"),
        "MLFLOW_AUTH_ADMIN_USERNAME": login["username"],
        "MLFLOW_AUTH_ADMIN_PASSWORD": login["password"],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_urlsafe(32),  # signs forms alone, so that it need not outlive the server
        "PYTHONSAFEPATH": "1",  # nothing is imported from the working folder
    }
    return [
        *started,
        stack.enter_context(processes.running("mlflow", [sys.executable, "-m", *mlflow], pages, environment, pages / "server.log")),
    ]


def _dags(port: int, login: Mapping[str, str], on: bool) -> list[dict[str, Any]]:
    """What Airflow lists, after the paused ones were switched on where asked to."""
    dags = airflow_server.list_dags(port, login)
    if on:
        airflow_server.switch_on(port, login, dags)
        dags = airflow_server.list_dags(port, login)
    return dags


def _login(path: Path) -> dict[str, str]:
    """Airflow's only user and a password made once for this store, in the file where Airflow looks it up."""
    if not path.exists():
        with suppress(FileExistsError):  # another process has just made it
            files.create_text(path, json.dumps({USER: secrets.token_urlsafe(12)}), 0o600)
    return {"username": USER, "password": json.loads(path.read_text(encoding="utf-8"))[USER]}


@contextmanager
def _interruptible() -> Iterator[None]:
    """A polite kill ends us like Ctrl-C does: with the servers stopped."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        console().print("stopped Airflow and MLflow")
    finally:
        signal.signal(signal.SIGTERM, before)


def _tell(addresses: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(dict(addresses)), flush=True)
        return
    if addresses.get("already_running"):
        print(f"already running here (process {addresses['pid']}):")
    print(f"Airflow  {addresses['airflow']}  user {addresses['username']}, password {addresses['password']}")
    print(f"MLflow   {addresses['mlflow']}  the same user and password")
    for dag in addresses["dags"]:
        print(airflow_server.describe_dag(dag, datetime.now(UTC)))
    if any(dag["paused"] for dag in addresses["dags"]):
        print("What is paused never runs by itself. `upheld up --on` switches all on, the switch beside its name in Airflow's pages one.")
    if not addresses.get("already_running"):
        print("Ctrl-C stops both.")
    sys.stdout.flush()


@command("up")
def main(
    airflow_port: Annotated[int, typer.Option(help="Loopback port of Airflow.", min=1, max=65535)] = 8080,
    mlflow_port: Annotated[int, typer.Option(help="Loopback port of MLflow.", min=1, max=65535)] = 5000,
    on: Annotated[bool, typer.Option("--on", help="Switch every paused DAG on.")] = False,
    store: StoreFolder = STORE_FOLDER,
    as_json: AsJson = False,
) -> None:
    """Start Airflow and MLflow on loopback."""
    run(store, airflow_port, mlflow_port, on, as_json)


if __name__ == "__main__":
    sys.exit(main())
