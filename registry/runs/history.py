"""Which retrains there were, and where the unlucky ones stopped. Reads the store alone, so Airflow need not run.

usage: upheld runs [--json]
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from upheld.common.command import STORE_FOLDER, Output, StoreFolder, command
from upheld.common.errors import BadUse


@dataclass(frozen=True)
class Run:
    """One retrain, as its workspace tells it.

    `state` is registered, failed, or unfinished (running now, or stopped from outside); `tasks` has for every task
    that has ended its result: status, duration_s, and error where it failed.
    """

    name: str
    created_at: str
    state: str
    failed_task: str | None
    error: str | None
    workspace: str
    tasks: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Failure:
    """What dags/runner/run_stage.py leaves where a task failed: which one, why, and its exit code (1 failed, 2 bad use, 75 killed)."""

    task: str
    message: str
    exit_code: int


def read_failure(path: Path) -> Failure | None:
    """The failure that a file tells of; None where there is no such file, so no task's last try failed."""
    return Failure(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def folder(store: Path, name: str) -> Path:
    """Workspace of a run.

    Args:
        store: folder with the runs.
        name: of the run, or a beginning that no other run shares.

    Raises:
        BadUse: there is no such run, or several begin like this; the message lists them.
    """
    known = sorted(path.parent.name for path in (store / "runs").glob("*/run.json"))
    found = [run for run in known if run == name] or [run for run in known if name and run.startswith(name)]
    if len(found) > 1:
        raise BadUse(f"several runs begin with {name!r}: {', '.join(found)}; name more of the one that is meant")
    if not found:
        raise BadUse(f"there is no run {name!r} in {store / 'runs'}; `upheld runs` lists them")
    return store / "runs" / found[0]


def read(workspace: Path) -> Run:
    """What one workspace tells of its run: tasks in the order in which they started."""
    results = [(path.stem, json.loads(path.read_text(encoding="utf-8"))) for path in sorted((workspace / "results").glob("*.json"))]
    tasks = dict(sorted(results, key=lambda item: item[1]["started_at"]))
    failure = read_failure(workspace / "failure.json")
    state = "failed" if failure else "registered" if "register" in tasks else "unfinished"
    return Run(
        name=workspace.name,
        created_at=json.loads((workspace / "run.json").read_text(encoding="utf-8"))["created_at"],
        state=state,
        failed_task=failure.task if failure else None,
        error=failure.message if failure else None,
        workspace=str(workspace),
        tasks=tasks,
    )


def run(store: Path) -> list[Run]:
    """All runs of a store, newest first."""
    found = [read(path.parent) for path in (store / "runs").glob("*/run.json")]
    return sorted(found, key=lambda item: (item.created_at, item.name), reverse=True)


def show(runs: Sequence[Run]) -> None:
    """Print a line a run, nothing of it cut off however narrow the terminal is, and why the newest failed one failed."""
    rows = [("run", "made", "state", "version", "stopped at")]
    for item in runs:
        version = item.tasks.get("register", {}).get("model", "").rpartition("/")[2]
        rows.append((item.name, item.created_at[:16].replace("T", " "), item.state, version, item.failed_task or ""))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    failed = next((item for item in runs if item.failed_task), None)
    if failed:
        log = Path(failed.workspace) / "logs" / f"{failed.failed_task}.log"
        print(f"{failed.name} failed: {failed.error}")
        print(f"its log: {log}\nagain from there: upheld rerun {failed.name} --from {failed.failed_task}")


@command("runs")
def main(store: StoreFolder = STORE_FOLDER) -> Output:
    """List the retrains and where the failed ones stopped."""
    found = run(store)
    none = f"no run yet in {store / 'runs'}; `upheld retrain` makes one"
    return Output([asdict(item) for item in found], (lambda: show(found)) if found else none)


if __name__ == "__main__":
    sys.exit(main())
