"""The DAGs as Airflow lists them: which are paused, what each one does once it is switched on, and switching them on."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from upheld.common.errors import FailedWork
from upheld.registry.servers import processes


def listed(port: int, login: Mapping[str, str]) -> list[dict[str, Any]]:
    """Ask Airflow for its DAGs.

    Args:
        port: loopback port of Airflow.
        login: username and password.

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


def sentence(dag: Mapping[str, Any], now: datetime) -> str:
    """One line about a DAG of `listed`: whether it is paused, its name, when it runs next (once it is on), and what it does then."""
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
