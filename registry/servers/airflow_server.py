"""Airflow as this store runs it: its home, the environment that its processes are started with, and its DAGs, which begin paused."""

import base64
import json
import os
import secrets
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from upheld import ROOT
from upheld.common import files
from upheld.common.errors import FailedWork
from upheld.registry.servers import processes
from upheld.registry.tracking import place as store_place

SECRETS = "secrets.json"
BUSY_S = 60  # a write waits for another one; with SQLite's own 5 s a busy machine's scheduler made the API answer 500


def home(store: Path) -> Path:
    """AIRFLOW_HOME of a store, absolute."""
    return store.absolute() / "airflow"


def environment(store: Path) -> dict[str, str]:
    """Variables for every Airflow process of this store; makes its home and its secrets if there are none.

    Returns:
        the environment of this process with Airflow's settings: our DAGs alone, SQLite and LocalExecutor in the store,
        loopback, nothing sent home.

    Raises:
        FailedWork: the store is a copy, in which Airflow's own records name the original.
    """
    store_place.refuse_copied(store)
    folder = home(store)
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    keys = folder / SECRETS  # made once for this store; nobody but its owner can read them, and no two stores share them
    if not keys.exists():
        made = {
            "CORE__FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "API__SECRET_KEY": secrets.token_urlsafe(32),
            "API_AUTH__JWT_SECRET": secrets.token_urlsafe(64),
        }
        with suppress(FileExistsError):  # another process has just made it
            files.create_text(keys, json.dumps(made), 0o600)
    settings = {
        "CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__PARALLELISM": "4",
        "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder / 'airflow.db'}?timeout={BUSY_S}",
        "DATABASE__SQL_ALCHEMY_SESSION_MAKER": "upheld.registry.servers.airflow_sessions.session_maker",
        "API__HOST": "127.0.0.1",
        "API__WORKERS": "1",
        "DAG_PROCESSOR__REFRESH_INTERVAL": "30",
        "USAGE_DATA_COLLECTION__ENABLED": "False",
        **json.loads(keys.read_text(encoding="utf-8")),
    }
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    ours = {"AIRFLOW_HOME": str(folder), "UPHELD_STORE": str(store.absolute()), "PATH": path, "DO_NOT_TRACK": "true"}
    return dict(os.environ) | ours | {f"AIRFLOW__{key}": value for key, value in settings.items()}


def list_dags(port: int, login: Mapping[str, str]) -> list[dict[str, Any]]:
    """Ask Airflow for its DAGs.

    Returns:
        {"dag", "name", "paused", "schedule", "next_run", "does"} of each DAG, by name; schedule in words, next_run an ISO 8601 time or
        None where no time decides, does its description or None. Empty as long as Airflow does not answer.
    """
    headers = _headers(port, login)
    answer = headers and processes.ask(port, "GET", "/api/v2/dags?limit=100&order_by=dag_id", headers)
    return [
        {
            "dag": dag["dag_id"],
            "name": dag["dag_display_name"],
            "paused": dag["is_paused"],
            "schedule": dag["timetable_description"] or dag["timetable_summary"] or "Never by itself",
            "next_run": dag["next_dagrun_run_after"],
            "does": dag["description"],
        }
        for dag in (json.loads(answer)["dags"] if answer else ())
    ]


def switch_on(port: int, login: Mapping[str, str], dags: Sequence[Mapping[str, Any]]) -> None:
    """Let those DAGs run that are paused.

    Raises:
        FailedWork: Airflow refuses; the DAGs before that one are on.
    """
    headers = _headers(port, login)
    for dag in dags:
        on = json.dumps({"is_paused": False})
        if dag["paused"] and not (headers and processes.ask(port, "PATCH", f"/api/v2/dags/{dag['dag']}", headers, on)):
            raise FailedWork(f"Airflow does not switch {dag['dag']} on; do it in its pages, or repeat `upheld up --on`")


def describe_dag(dag: Mapping[str, Any], now: datetime) -> str:
    """One line about a DAG of `list_dags`: whether it is paused, its name, when it runs next (once it is on), and what it does then."""
    if dag["next_run"] is None:
        when = f"{dag['schedule']}, from the moment it is on" if dag["paused"] else dag["schedule"]
    else:
        due = datetime.fromisoformat(dag["next_run"])
        moment = "at once" if due <= now else f"{due.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        when = f"{dag['schedule']} (UTC); {'when switched on, first' if dag['paused'] else 'next'} {moment}"
    name = dag["dag"] if dag["name"] == dag["dag"] else f"{dag['name']} ({dag['dag']})"
    return f"{'paused' if dag['paused'] else 'on':<6}  {name}: {when}.{' ' + dag['does'] if dag['does'] else ''}"


def _headers(port: int, login: Mapping[str, str]) -> dict[str, str] | None:
    """What carries the login, or None as long as Airflow does not take it."""
    kind = {"Content-Type": "application/json"}
    token = processes.ask(port, "POST", "/auth/token", kind, json.dumps(dict(login)))
    return kind | {"Authorization": f"Bearer {json.loads(token)['access_token']}"} if token else None
