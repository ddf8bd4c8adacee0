"""Start Airflow with our DAGs and the MLflow pages, on this machine alone, until interrupted.

usage: upheld up --store store
"""

import fcntl
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import IO, Annotated, Any

import typer

from feature_store import atomic
from feature_store.command import PARAMS_FILE, STORE_FOLDER, AsJson, Overrides, ParamsFile, StoreFolder, console, execute
from feature_store.errors import FailedWork
from registry import airflow_home, mlflow_store, servers
from registry.servers import HOST, Server

USER = "admin"
START_TIMEOUT_S = 300.0
POLL_S = 0.5


def run(store: Path, airflow_port: int, mlflow_port: int, as_json: bool) -> None:
    """Start both, tell where they are, wait for an interrupt or for one of them to end, stop both.

    Args:
        store: folder with ledger, registry, runs and caches; Airflow's home and logs come under it.
        airflow_port: loopback port of Airflow.
        mlflow_port: loopback port of MLflow.
        as_json: tell in JSON.

    Raises:
        FailedWork: a port is taken, or a server ended; the message names its log.
    """
    environment = airflow_home.environment(store)
    home = airflow_home.home(store)
    login = _login(home / "passwords.json")
    with (home / "up.lock").open("a") as lock:
        if not _claim(lock):
            _tell(_found(home / "up.json") | login | {"already_running": True}, as_json)
            return
        (home / "up.json").unlink(missing_ok=True)  # of an earlier start
        for name, port in (("airflow", airflow_port), ("mlflow", mlflow_port)):
            servers.refuse_taken(name, port)
        addresses = {"airflow": f"http://{HOST}:{airflow_port}", "mlflow": f"http://{HOST}:{mlflow_port}"}
        environment |= {
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight more processes, for jobs that nobody here starts
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "UPHELD_MLFLOW_PAGES": addresses["mlflow"],  # for links to reports
            "AIRFLOW__API__PORT": str(airflow_port),
            "AIRFLOW__API__BASE_URL": addresses["airflow"],
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{addresses['airflow']}/execution/",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
        }
        with _interruptible(), ExitStack() as stack:
            started = _start(store, mlflow_port, environment, stack)
            _wait_until_ready(started, airflow_port, mlflow_port, login)
            atomic.write_json(home / "up.json", addresses | {"pid": os.getpid()})
            _tell(addresses | login, as_json)
            _wait(started)


def _start(store: Path, mlflow_port: int, environment: Mapping[str, str], stack: ExitStack) -> list[Server]:
    """Database first, then both servers at once."""
    home, pages = airflow_home.home(store), store.absolute() / "mlflow"
    pages.mkdir(exist_ok=True)
    with (home / "database.log").open("wb") as log:
        made = subprocess.run([sys.executable, "-m", "dags.database"], cwd=airflow_home.ROOT, env=environment, stdout=log, stderr=log)
    if made.returncode:
        raise FailedWork(f"Airflow's database cannot be prepared; see {home / 'database.log'}")
    backend = ["--backend-store-uri", mlflow_store.tracking_uri(store), "--default-artifact-root", (pages / "artifacts").as_uri()]
    mlflow = ["mlflow", "server", "--host", HOST, "--port", str(mlflow_port), "--workers", "1", *backend]
    commands = (("airflow", ["airflow", "standalone"], home / "standalone.log"), ("mlflow", mlflow, pages / "server.log"))
    return [
        stack.enter_context(servers.running(name, [sys.executable, "-m", *argv], airflow_home.ROOT, environment, log))
        for name, argv, log in commands
    ]


def _wait_until_ready(started: Sequence[Server], airflow_port: int, mlflow_port: int, login: Mapping[str, str]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    with console().status("starting Airflow and MLflow"):
        while not (_mlflow_answers(mlflow_port) and _dags_are_loaded(airflow_port, login)):
            servers.refuse_ended(started)
            if time.monotonic() > deadline:
                raise FailedWork(f"not ready after {START_TIMEOUT_S:.0f} s; see {' and '.join(str(server.log) for server in started)}")
            time.sleep(POLL_S)


def _wait(started: Sequence[Server]) -> None:
    while True:
        servers.refuse_ended(started)
        time.sleep(POLL_S)


def _mlflow_answers(port: int) -> bool:
    return servers.ask(port, "GET", "/health") is not None


def _dags_are_loaded(port: int, login: Mapping[str, str]) -> bool:
    """Airflow answers, takes the login, and lists the DAG that everything here is about."""
    token = servers.ask(port, "POST", "/auth/token", {"Content-Type": "application/json"}, json.dumps(login))
    if token is None:
        return False
    bearer = {"Authorization": f"Bearer {json.loads(token)['access_token']}"}
    return servers.ask(port, "GET", "/api/v2/dags/retrain", bearer) is not None


def _claim(lock: IO[str]) -> bool:
    """Whether no other `upheld up` holds this store; the kernel frees the lock when its holder ends in any way."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _found(path: Path) -> dict[str, Any]:
    """Where the `upheld up` that holds the store answers.

    Raises:
        FailedWork: it has not got so far yet.
    """
    if not path.exists():
        raise FailedWork("another `upheld up` is just starting on this store; ask again in a minute")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _login(path: Path) -> dict[str, str]:
    """Airflow's only user and a password made once for this store, in the file where Airflow looks it up."""
    if not path.exists():
        airflow_home.write_once(path, json.dumps({USER: secrets.token_urlsafe(12)}))
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
    print(f"MLflow   {addresses['mlflow']}", flush=True)
    if not addresses.get("already_running"):
        print("DAGs are paused until you switch them on. Ctrl-C stops both.", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of `run`. Returns the exit code."""

    def up(
        airflow_port: Annotated[int, typer.Option(help="Loopback port of Airflow.", min=1, max=65535)] = 8080,
        mlflow_port: Annotated[int, typer.Option(help="Loopback port of MLflow.", min=1, max=65535)] = 5000,
        params_file: ParamsFile = PARAMS_FILE,
        overrides: Overrides = [],  # noqa: B006  (Typer reads it, nobody changes it)
        store: StoreFolder = STORE_FOLDER,
        as_json: AsJson = False,
    ) -> None:
        """Start Airflow and MLflow on loopback."""
        run(store, airflow_port, mlflow_port, as_json)

    return execute(up, "up", argv)


if __name__ == "__main__":
    sys.exit(main())
