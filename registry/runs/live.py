"""The MLflow run of a retrain that is under way: begun when its workspace is, FAILED when a task fails; `register` finishes it.

usage: python -m upheld.registry.runs.live --workspace store/runs/RUN --store store            (begin, or go on)
       python -m upheld.registry.runs.live --workspace store/runs/RUN --store store --failed
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from upheld.common.command import STORE_FOLDER, StoreFolder, command
from upheld.common.errors import FailedWork
from upheld.common.files import write_json
from upheld.common.params.params import flatten
from upheld.registry.runs import history
from upheld.registry.tracking import live_run, mlflow_store
from upheld.registry.tracking.mlflow_store import Registry

FILE = "mlflow.json"  # in the workspace: run_id, and page, which is None where the address of MLflow's pages is not known
SILENT_S = 3600.0  # a run whose workspace has told nothing for so long is taken for dead


def begin(workspace: Path, store: Path) -> None:
    """Begin the workspace's run, or let it go on where it has one; end the runs of which nobody has heard for an hour.

    Args:
        workspace: folder of the run, which gives it its name.
        store: folder with the registry.

    Raises:
        FailedWork: MLflow cannot be opened.
    """
    registry = mlflow_store.connect(store)
    run_id = of_workspace(registry, workspace)
    if run_id is None:
        note = f"{in_airflow(workspace)}Under way. What it came to will stand here."
        run_id = live_run.begin(registry, workspace.name, facts(workspace) | {mlflow_store.NOTE: note})
        write_json(workspace / FILE, {"run_id": run_id, "page": mlflow_store.run_page(registry, run_id)})
        mlflow_store.log_facts(registry, run_id, read_params(workspace), [])
    live_run.go_on(registry, run_id)
    end_dead(registry, store, run_id)


def fail(workspace: Path, store: Path) -> None:
    """End the workspace's run, if it has one, as FAILED; a tag names the task.

    Raises:
        FailedWork: MLflow cannot be opened.
    """
    registry = mlflow_store.connect(store)
    run_id, failure = of_workspace(registry, workspace), history.read_failure(workspace / "failure.json")
    if run_id and failure:
        live_run.end(registry, run_id, "FAILED", {live_run.FAILED_TASK: failure.task})


def end_dead(registry: Registry, store: Path, alive: str) -> None:
    """End the other runs of this store that are RUNNING and have told nothing for an hour.

    FAILED where a task failed and MLflow was not told, else KILLED. One that lives after all is RUNNING again as soon as a network trains.
    """
    for name, run_id in live_run.running(registry).items():
        workspace = store / "runs" / name
        if run_id == alive or recorded(workspace) != run_id:  # another store's, where several share a server
            continue
        told = [*workspace.glob("logs/*"), *workspace.glob("results/*"), workspace / FILE]
        if time.time() - max(path.stat().st_mtime for path in told) > SILENT_S:
            failure = history.read_failure(workspace / "failure.json")
            live_run.end(registry, run_id, "FAILED" if failure else "KILLED", {live_run.FAILED_TASK: failure.task} if failure else {})


def recorded(workspace: Path) -> str | None:
    """Id of the workspace's run as it was begun; None where it was not."""
    path = workspace / FILE
    return str(json.loads(path.read_text(encoding="utf-8"))["run_id"]) if path.is_file() else None


def of_workspace(registry: Registry, workspace: Path) -> str | None:
    """Id of the workspace's run; None where none was begun, or somebody has deleted it."""
    run_id = recorded(workspace)
    return run_id if run_id and live_run.known(registry, run_id) else None


def facts(workspace: Path) -> dict[str, str]:
    """Tags that say where a run comes from."""
    about: dict[str, Any] = json.loads((workspace / "run.json").read_text(encoding="utf-8"))
    return {f"upheld.{key}": str(value) for key, value in about.items()}


def in_airflow(workspace: Path) -> str:
    """Markdown that leads to the run in Airflow, or nothing where its address is not known."""
    page = json.loads((workspace / "run.json").read_text(encoding="utf-8")).get("airflow_page")
    return f"[The run in Airflow]({page})\n\n" if page else ""


def read_params(workspace: Path) -> dict[str, Any]:
    """The run's parameters, flat."""
    return flatten(yaml.safe_load((workspace / "params.yaml").read_text(encoding="utf-8")))


@command("live")
def main(
    workspace: Annotated[Path, typer.Option(help="Workspace of the run.")],
    store: StoreFolder = STORE_FOLDER,
    failed: Annotated[bool, typer.Option("--failed", help="End it; its failure.json says where it failed.")] = False,
) -> None:
    """Begin the MLflow run of a workspace, or let it go on, or say that it failed."""
    os.environ.update(live_run.IMPATIENT)
    try:
        (fail if failed else begin)(workspace, store)
    except Exception as error:  # whatever MLflow and its database raise
        lines = str(error).splitlines() or [type(error).__name__]
        raise FailedWork(f"MLflow does not show how this run goes ({lines[0]}); the run goes on without") from error


if __name__ == "__main__":
    sys.exit(main())
