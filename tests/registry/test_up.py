"""`upheld up`: starts, says where it is, refuses a taken port, knows that it runs already, and leaves nothing behind."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pytest

from feature_store.errors import FailedWork
from registry import airflow_home, servers

REPOSITORY = Path(__file__).resolve().parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def up(store: Path, airflow_port: int, mlflow_port: int) -> subprocess.Popen[str]:
    ports = ["--airflow-port", str(airflow_port), "--mlflow-port", str(mlflow_port)]
    command = [sys.executable, "-m", "registry.up", "--store", str(store), *ports, "--json"]
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


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_up_runs_until_it_is_stopped(tmp_path: Path, stop: signal.Signals) -> None:
    airflow_port, mlflow_port = free_port(), free_port()
    with up(tmp_path, airflow_port, mlflow_port) as first:
        assert first.stdout is not None
        told = json.loads(first.stdout.readline())
        assert told["airflow"] == f"http://127.0.0.1:{airflow_port}"
        with urlopen(f"{told['airflow']}/api/v2/monitor/health") as answer:
            assert json.load(answer)["metadatabase"]["status"] == "healthy"
        with urlopen(f"{told['mlflow']}/health") as answer:
            assert answer.status == 200
        assert listening_addresses({airflow_port, mlflow_port}) == {"127.0.0.1"}
        out, _ = up(tmp_path, airflow_port, mlflow_port).communicate(timeout=60)
        assert json.loads(out) == told | {"already_running": True, "pid": first.pid}
        assert len(of_store(tmp_path)) > 1
        first.send_signal(stop)
        _, errors = first.communicate(timeout=90)
    assert (first.returncode, errors.count("Traceback")) == (0, 0)
    deadline = time.monotonic() + 10
    while of_store(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert of_store(tmp_path) == []
    servers.refuse_taken("airflow", airflow_port)


def listening_addresses(ports: set[int]) -> set[str]:
    """IPv4 addresses on which somebody listens at one of the ports (/proc/net/tcp, address in little-endian hexadecimal)."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = [row[1].split(":") for row in rows if row[3] == "0A"]
    return {socket.inet_ntoa(bytes.fromhex(address)[::-1]) for address, port in listening if int(port, 16) in ports}


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
    first, again, other = (airflow_home.environment(tmp_path / name) for name in ("a", "a", "b"))
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
