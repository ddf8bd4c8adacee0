"""Show in MLflow how a stage goes while it runs: the curves that its loop writes, and how busy the machine is.

usage: python -m upheld.registry.runs.follow --workspace store/runs/RUN --store store --stage text

Runs beside the stage until it is told to end (SIGTERM), at a low priority. MLflow takes seconds of processor time to import, so that
nothing is imported before the stage has lasted a while. What is left out then, or could not be logged, `register` adds.
"""

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

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


def main(argv: Sequence[str] | None = None) -> int:
    """Follow one stage."""
    parser = argparse.ArgumentParser(description="Show in MLflow how a stage goes while it runs")
    parser.add_argument("--workspace", type=Path, required=True, help="folder of the run")
    parser.add_argument("--store", type=Path, required=True, help="folder with the registry")
    parser.add_argument("--stage", required=True, help="stage of dvc.yaml")
    args = parser.parse_args(argv)
    os.nice(NICENESS)
    time.sleep(START_AFTER_S)
    from upheld.registry.tracking import live_run

    os.environ.update(live_run.IMPATIENT)
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    run(args.workspace, args.store, args.stage, ended)
    return 0


if __name__ == "__main__":
    sys.exit(main())
