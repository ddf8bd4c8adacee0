"""`upheld up`: starts, says where it is, refuses a taken port, knows that it runs already, and leaves nothing behind."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from base64 import b64encode
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from upheld.common.errors import FailedWork
from upheld.registry.servers import airflow_server
from upheld.registry.servers import processes as servers
from upheld.registry.tracking import mlflow_store

REPOSITORY = Path(__file__).resolve().parents[3]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def up(store: Path, airflow_port: int, mlflow_port: int) -> subprocess.Popen[str]:
    ports = ["--airflow-port", str(airflow_port), "--mlflow-port", str(mlflow_port)]
    command = [sys.executable, "-m", "upheld.registry.servers.up", "--store", str(store), *ports, "--json"]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def of_store(store: Path) -> list[int]:
    """Processes whose environment names the store."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and f"AIRFLOW_HOME={store}".encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def status(address: str, method: str = "GET", login: dict[str, str] | None = None, body: bytes | None = None) -> tuple[int, bytes]:
    """HTTP status and body of an answer; the login goes as MLflow takes it."""
    headers = {"Content-Type": "application/json"}
    if login:
        headers["Authorization"] = "Basic " + b64encode(":".join((login["username"], login["password"])).encode()).decode()
    try:
        with urlopen(Request(address, body, headers, method=method)) as answer:
            return answer.status, answer.read()
    except HTTPError as error:
        return error.code, error.read()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_up_runs_until_it_is_stopped_also_twice_on_one_machine(tmp_path: Path) -> None:
    stops = {"one": signal.SIGINT, "two": signal.SIGTERM}
    ports = {name: (free_port(), free_port()) for name in stops}
    started = {name: up(tmp_path / name, *ports[name]) for name in stops}
    try:
        runs_until_it_is_stopped(tmp_path, stops, ports, started)
    finally:  # a failure here is no failure of the tests that follow
        for process in started.values():
            process.terminate()
            process.communicate(timeout=90)


def runs_until_it_is_stopped(
    tmp_path: Path, stops: dict[str, signal.Signals], ports: dict[str, tuple[int, int]], started: dict[str, subprocess.Popen[str]]
) -> None:
    told = {name: json.loads(process.stdout.readline()) for name, process in started.items() if process.stdout is not None}
    for name, process in started.items():
        assert told[name]["airflow"] == f"http://127.0.0.1:{ports[name][0]}"
        assert json.loads(status(f"{told[name]['airflow']}/api/v2/monitor/health")[1])["metadatabase"]["status"] == "healthy"
        assert status(f"{told[name]['mlflow']}/health")[0] == 200
        listening = listeners(process.pid)
        assert {port for _, port in listening} >= set(ports[name])
        assert {address for address, _ in listening} <= {"127.0.0.1", "::1"}
        assert len(of_store(tmp_path / name)) > 1
    schedules_are_told_and_switched_on(tmp_path / "one", started["one"], told["one"])
    only_who_logs_in_reaches_mlflow(tmp_path / "one", told["one"])
    task_logs_can_be_read(told["one"])
    for name, process in started.items():
        process.send_signal(stops[name])
    for name, process in started.items():
        _, errors = process.communicate(timeout=90)
        assert (process.returncode, errors.count("Traceback")) == (0, 0)
        deadline = time.monotonic() + 10
        while of_store(tmp_path / name) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert of_store(tmp_path / name) == []
        servers.refuse_taken("airflow", ports[name][0])


def schedules_are_told_and_switched_on(store: Path, first: subprocess.Popen[str], told: dict[str, Any]) -> None:
    """Asked again, `up` finds the one that runs, and `--on` switches on there."""
    out, _ = up(store, 1, 1).communicate(timeout=60)
    assert json.loads(out) == told | {"already_running": True, "pid": first.pid}
    assert {dag["dag"] for dag in told["dags"]} == {"ingest_review_outcomes", "promote", "retrain", "weekly_calibration"}
    assert all(dag["paused"] for dag in told["dags"])
    (retrain,) = (dag for dag in told["dags"] if dag["dag"] == "retrain")
    assert "Monday" in retrain["schedule"]
    assert datetime.fromisoformat(retrain["next_run"]).weekday() == 0
    command = [sys.executable, "-m", "upheld.registry.servers.up", "--store", str(store), "--on"]
    lines = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
    assert len([line for line in lines if line.startswith("on ")]) == len(told["dags"])
    assert not [line for line in lines if "paused" in line]
    assert not any(dag["paused"] for dag in json.loads(up(store, 1, 1).communicate(timeout=60)[0])["dags"])


def only_who_logs_in_reaches_mlflow(store: Path, told: dict[str, Any]) -> None:
    registry = mlflow_store.connect(store)
    report = store / "report.html"
    report.write_text("<h1>A report</h1>")
    with mlflow_store.recorded_run(registry, "run-1", {}) as run_id:
        mlflow_store.log_facts(registry, run_id, {}, [(report, "evaluation")])
    api, page = f"{told['mlflow']}/api/2.0", f"{told['mlflow']}/get-artifact?path=evaluation/report.html&run_uuid={run_id}"
    assert status(page, login=told) == (200, b"<h1>A report</h1>")
    stranger, wrong = None, {"username": "admin", "password": "password1234"}
    for login in (stranger, wrong):
        assert status(page, login=login)[0] == 401
        assert status(f"{told['mlflow']}/", login=login)[0] == 401
        assert status(f"{api}/mlflow/experiments/search?max_results=1", login=login)[0] == 401
        assert status(f"{api}/mlflow/registered-models/create", "POST", login, b'{"name": "upheld-moderation"}')[0] == 401
        assert status(f"{api}/mlflow-artifacts/artifacts/evil/x.txt", "PUT", login, b"evil")[0] == 401
    assert status(f"{api}/mlflow/experiments/search?max_results=1", login=told)[0] == 200
    assert status(f"{api}/mlflow-artifacts/artifacts/evil/x.txt", "PUT", told, b"evil")[0] == 503  # nobody can upload
    assert [
        path for folder in (store, REPOSITORY) for path in (*folder.glob("evil"), *folder.glob("*/evil"), *folder.glob("mlartifacts"))
    ] == []
    assert (store / "mlflow").stat().st_mode & 0o077 == 0


def task_logs_can_be_read(told: dict[str, Any]) -> None:
    """Without log servers: Airflow reads the files of tasks."""
    login = json.dumps({key: told[key] for key in ("username", "password")}).encode()
    token = json.loads(status(f"{told['airflow']}/auth/token", "POST", body=login)[1])["access_token"]

    def ask(path: str, body: bytes | None = None) -> Any:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", "Accept": "application/json"}
        with urlopen(Request(f"{told['airflow']}/api/v2/dags/promote/dagRuns{path}", body, headers)) as answer:
            return json.load(answer)

    ask("", b'{"dag_run_id": "nothing", "logical_date": null}')
    deadline = time.monotonic() + 180
    while ask("/nothing")["state"] not in ("success", "failed"):
        assert time.monotonic() < deadline
        time.sleep(1)
    said = json.dumps(ask("/nothing/taskInstances/describe/logs/1?full_content=true"))
    assert "upheld promote" in said
    assert "Could not read served logs" not in said


def listeners(first: int) -> set[tuple[str, int]]:
    """(address, port) on which a process, its descendants or whoever shares a session with one of these listen."""
    stats = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()  # state, parent, group, session
                stats[int(entry.name)] = (int(fields[1]), int(fields[3]))
    ours = {first}
    while len(ours) < len(ours := ours | {pid for pid, (parent, session) in stats.items() if {parent, session} & ours}):
        pass
    inodes = set()
    for pid in ours:
        with suppress(OSError):
            inodes |= {os.readlink(file) for file in Path(f"/proc/{pid}/fd").iterdir()}
    found = set()
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for row in (line.split() for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]):
            if row[3] == "0A" and f"socket:[{row[9]}]" in inodes:  # it listens; addresses are words of four bytes, little-endian
                address, port = row[1].split(":")
                words = bytes.fromhex(address)
                packed = b"".join(words[start : start + 4][::-1] for start in range(0, len(words), 4))
                found.add((socket.inet_ntop(family, packed), int(port, 16)))
    return found


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({}, "paused  Retrain (retrain): At 03:00, only on Monday (UTC); when switched on, first 2026-11-30 03:00 UTC. Trains."),
        (
            {"next_run": "2026-11-23T03:00:00Z"},
            "paused  Retrain (retrain): At 03:00, only on Monday (UTC); when switched on, first at once. Trains.",
        ),
        ({"paused": False, "does": None}, "on      Retrain (retrain): At 03:00, only on Monday (UTC); next 2026-11-30 03:00 UTC."),
        ({"schedule": "By assets", "next_run": None}, "paused  Retrain (retrain): By assets, from the moment it is on. Trains."),
        (
            {"name": "retrain", "does": None},
            "paused  retrain: At 03:00, only on Monday (UTC); when switched on, first 2026-11-30 03:00 UTC.",
        ),
    ],
)
def test_a_line_says_what_switching_a_schedule_on_means(changed: dict[str, Any], line: str) -> None:
    dag = {"dag": "retrain", "name": "Retrain", "paused": True, "schedule": "At 03:00, only on Monday", "does": "Trains."}
    said = airflow_server.describe_dag(dag | {"next_run": "2026-11-30T03:00:00Z"} | changed, datetime(2026, 11, 28, tzinfo=UTC))
    assert said == line


def test_a_port_in_use_is_named_with_the_way_out(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        _, errors = up(tmp_path, port, free_port()).communicate(timeout=60)
        assert errors == f"upheld up: port {port} for airflow is in use; stop what uses it or name another with --airflow-port\n"
        with pytest.raises(FailedWork, match="--mlflow-port"):
            servers.refuse_taken("mlflow", port)


def test_secrets_are_made_once_for_a_store_and_kept_from_others(tmp_path: Path) -> None:
    first, again, other = (airflow_server.environment(tmp_path / name) for name in ("a", "a", "b"))
    keys = ("AIRFLOW__CORE__FERNET_KEY", "AIRFLOW__API__SECRET_KEY", "AIRFLOW__API_AUTH__JWT_SECRET")
    assert [first[key] for key in keys] == [again[key] for key in keys]
    assert not {first[key] for key in keys} & {other[key] for key in keys}
    assert (tmp_path / "a/airflow/secrets.json").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "a/airflow").stat().st_mode & 0o777 == 0o700


def test_a_server_that_does_not_want_to_stop_is_stopped_with_its_children(tmp_path: Path) -> None:
    stubborn = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("up", flush=True)
time.sleep(600)
"""
    environment = os.environ | {"AIRFLOW_HOME": str(tmp_path)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(servers, "STOP_TIMEOUT_S", 1.0)
        with servers.running("stubborn", [sys.executable, "-c", stubborn], tmp_path, environment, tmp_path / "log") as server:
            while "up" not in (tmp_path / "log").read_text():
                time.sleep(0.05)
            assert len(of_store(tmp_path)) == 2
    assert of_store(tmp_path) == []
    with pytest.raises(FailedWork, match=r"stubborn ended with exit code -9; see .*log"):
        servers.refuse_ended([server])
