"""The same graph under Airflow's own scheduler: `upheld retrain` hands its run over where one is at work."""

import json
import socket
from typing import Any
from urllib.request import Request, urlopen

import pytest


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask(address: str, method: str, body: object, token: str = "") -> Any:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    with urlopen(Request(address, json.dumps(body).encode(), headers, method=method)) as answer:
        return json.load(answer)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_live_scheduler_takes_the_run(toy: Any) -> None:
    ports = ["--airflow-port", str(free_port()), "--mlflow-port", str(free_port())]
    with toy.start("upheld.registry.servers.up", *ports, "--store", str(toy.store), "--json") as up:
        try:
            told = json.loads(up.stdout.readline())
            login = {"username": told["username"], "password": told["password"]}
            token = ask(f"{told['airflow']}/auth/token", "POST", login)["access_token"]
            ask(f"{told['airflow']}/api/v2/dags/retrain", "PATCH", {"is_paused": False}, token)
            done = toy.call("upheld.registry.runs.retrain", "--store", str(toy.store), "--set", "seed=11", "--json")
            assert done.returncode == 0, done.stderr
            finished = json.loads(done.stdout)
            assert {name: result["status"] for name, result in finished["tasks"].items()} == {
                "prepare": "executed",
                "features": "executed",
                "pin": "executed",
                "copy": "executed",
                "double": "executed",
                "total": "executed",
                "register": "registered",
            }
            (log,) = (toy.store / "airflow").glob(f"{finished['run']}.log")
            assert "handed to the running scheduler" in log.read_text()
        finally:
            up.terminate()
            up.communicate(timeout=90)
    assert up.returncode == 0
