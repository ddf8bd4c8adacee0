"""Which retrains there were, and where the unlucky ones stopped. Reads the store alone, so Airflow need not run.

usage: upheld runs [--json]
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from feature_store.command import PARAMS_FILE, STORE_FOLDER, AsJson, Overrides, ParamsFile, StoreFolder, console, execute
from feature_store.errors import BadUse


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


def folder(store: Path, name: str) -> Path:
    """Workspace of a run.

    Raises:
        BadUse: there is no such run.
    """
    workspace = store / "runs" / name
    if Path(name).name != name or not (workspace / "run.json").is_file():
        raise BadUse(f"there is no run {name!r} in {store / 'runs'}; `upheld runs` lists them")
    return workspace


def read(workspace: Path) -> Run:
    """What one workspace tells of its run: tasks in the order in which they started."""
    results = [(path.stem, json.loads(path.read_text(encoding="utf-8"))) for path in sorted((workspace / "results").glob("*.json"))]
    tasks = dict(sorted(results, key=lambda item: item[1]["started_at"]))
    failed = next((task for task, result in tasks.items() if result["status"] == "failed"), None)
    state = "failed" if failed else "registered" if "register" in tasks else "unfinished"
    return Run(
        name=workspace.name,
        created_at=json.loads((workspace / "run.json").read_text(encoding="utf-8"))["created_at"],
        state=state,
        failed_task=failed,
        error=tasks[failed]["error"] if failed else None,
        workspace=str(workspace),
        tasks=tasks,
    )


def run(store: Path) -> list[Run]:
    """All runs of a store, newest first."""
    found = [read(path.parent) for path in (store / "runs").glob("*/run.json")]
    return sorted(found, key=lambda item: (item.created_at, item.name), reverse=True)


def show(runs: Sequence[Run]) -> None:
    """Print the table of runs, and under it why the newest failed one failed."""
    table = Table("run", "made", "state", "stopped at", "workspace", title="retrains, newest first")
    for item in runs:
        table.add_row(item.name, item.created_at, item.state, item.failed_task or "", item.workspace)
    shown = console(stderr=False, soft_wrap=True)
    shown.print(table, markup=False)
    failed = next((item for item in runs if item.failed_task), None)
    if failed:
        log = Path(failed.workspace) / "logs" / f"{failed.failed_task}.log"
        shown.print(f"{failed.name} failed: {failed.error}", markup=False)
        shown.print(f"its log: {log}\nagain from there: upheld rerun {failed.name} --from {failed.failed_task}", markup=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of `run`. Returns the exit code."""

    def runs(
        store: StoreFolder = STORE_FOLDER,
        as_json: AsJson = False,
        params_file: ParamsFile = PARAMS_FILE,
        overrides: Overrides = [],  # noqa: B006  (Typer reads it, nobody changes it)
    ) -> None:
        """List the retrains and where the failed ones stopped."""
        found = run(store)
        if as_json:
            print(json.dumps([asdict(item) for item in found]))
        elif found:
            show(found)
        else:
            print(f"no run yet in {store / 'runs'}; `upheld retrain` makes one")

    return execute(runs, "runs", argv)


if __name__ == "__main__":
    sys.exit(main())
