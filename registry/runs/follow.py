"""Show in MLflow how a stage goes while it runs: the curves that its loop writes, and how busy the machine is.

usage: python -m upheld.registry.runs.follow --workspace store/runs/RUN --store store --stage text

Runs beside the stage until it is told to end (SIGTERM), at a low priority. MLflow takes seconds of processor time to import, so that
it is not imported before the stage has lasted a while. What is left out then, or could not be logged, `register` adds.
"""

import os
import signal
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from upheld.common.command import STORE_FOLDER, StoreFolder, command

START_AFTER_S = 10.0
EVERY_S = 3.0
NICENESS = 10


def run(workspace: Path, store: Path, stage: str, ended: threading.Event) -> None:
    """Log what the stage writes until `ended` is set, and once after.

    What MLflow refuses is told of once, and tried again; nothing is raised for it.
    """
    from upheld.common import curves
    from upheld.registry.runs import curves as run_curves
    from upheld.registry.runs import live
    from upheld.registry.tracking import live_run, mlflow_store

    run_id, path = live.recorded(workspace), run_curves.file_of(workspace, stage)
    if run_id is None:
        return
    points: live_run.Points | None = None
    start, told, last = 0, False, False
    with ExitStack() as stack:
        while not last:
            try:
                if points is None:
                    registry = mlflow_store.connect(store)
                    live_run.go_on(registry, run_id)
                    points = live_run.Points(registry, run_id)
                    stack.enter_context(live_run.system_metrics(run_id))
                lines, stop = curves.read(path, start)
                points.add(run_curves.of_lines(stage, lines))
                start = stop
            except Exception as error:  # whatever MLflow and its database raise
                if not told:
                    print(f"{stage}: MLflow does not show how it goes ({(str(error).splitlines() or [''])[0]}); it goes on", flush=True)
                told = True
            last = ended.is_set()
            ended.wait(0 if last else EVERY_S)


@command("follow")
def main(
    workspace: Annotated[Path, typer.Option(help="Workspace of the run.")],
    stage: Annotated[str, typer.Option(help="Stage of dvc.yaml.")],
    store: StoreFolder = STORE_FOLDER,
) -> None:
    """Show in MLflow how a stage goes while it runs."""
    os.nice(NICENESS)
    time.sleep(START_AFTER_S)
    from upheld.registry.tracking import live_run

    os.environ.update(live_run.IMPATIENT)
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    run(workspace, store, stage, ended)


if __name__ == "__main__":
    sys.exit(main())
