"""Retrain: run the DAG `retrain` of Airflow from pinning the inputs to alias `challenger`, and say what every stage did.

usage: upheld retrain --store store --set text.epochs=1
       upheld rerun RUN --from STAGE    (with the params and pinned inputs of the run that failed, and the code of today)
"""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.table import Table

from upheld import ROOT
from upheld.common.command import PARAM_OPTIONS, STORE_FOLDER, Output, ParamOptions, StoreFolder, command
from upheld.common.errors import BadUse, FailedWork
from upheld.common.params import params
from upheld.common.terminal import console
from upheld.registry.runs import history
from upheld.registry.servers import airflow_server

POLL_S = 0.5
SAY_EVERY_S = 30.0  # where no terminal shows it all the time


def run(store: Path, conf: dict[str, Any]) -> history.Run:
    """Run the whole job through Airflow and wait for its end.

    Args:
        conf: what the trigger form would hold: changed parameters, `rerun_of`, `from_stage`.

    Raises:
        FailedWork: a task failed; the message names it, its reason, its log and the command that goes on from there.
    """
    started = datetime.now(UTC)
    workspace = store.absolute() / "runs" / re.sub(r"[^A-Za-z0-9_.-]", "-", f"manual__{started.isoformat()}")
    environment = airflow_server.environment(store) | {"AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING"}
    log = airflow_server.home(store) / f"{workspace.name}.log"
    with tempfile.TemporaryDirectory() as scratch, _airflow(started, conf, environment, log, Path(scratch)) as process:
        _follow(process, workspace)
    if process.returncode == 0:
        return history.read(workspace)
    record = history.read(workspace) if (workspace / "run.json").is_file() else None
    if record and record.failed_task:
        again = f"again from there: upheld rerun {record.name} --from {record.failed_task}"
        stage_log = workspace / "logs" / f"{record.failed_task}.log"
        place = stage_log if stage_log.exists() else log
        raise FailedWork(f"run {record.name} failed at {record.failed_task}: {record.error}; log: {place}; {again}")
    refused = history.read_failure(workspace.parent.parent / "refused" / f"{workspace.name}.json")  # before there was a workspace
    raise FailedWork(f"{refused.message if refused else 'Airflow could not run the DAG'}; log: {log}")


def rerun(store: Path, name: str, stage: str | None, conf: dict[str, object]) -> history.Run:
    """Start a new run that takes over what an earlier one was given.

    Its workspace is a new one, so the failed run stays as evidence; stages before `stage` come out of the cache.

    Args:
        name: run to take params and pinned inputs from.
        stage: stage to run even if nothing that it reads has changed; None takes the one where the run failed.
        conf: parameters to change on top.

    Raises:
        BadUse: there is no such run or stage.
        FailedWork: a task failed again.
    """
    earlier = history.read(history.folder(store, name))
    stages = list(yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"])
    if stage is not None and stage not in stages:
        raise BadUse(f"--from {stage}: no such stage; dvc.yaml has {', '.join(stages)}")
    forced = stage or (earlier.failed_task if earlier.failed_task in stages else None)
    return run(store, conf | {"rerun_of": earlier.name, "from_stage": forced})


@contextmanager
def _airflow(
    started: datetime, conf: dict[str, Any], environment: dict[str, str], log: Path, scratch: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """The process that runs the DAG, in a group of its own, so that an interrupt ends it with everything it started."""
    argv = [sys.executable, "-m", "upheld.dags.runner.run_now", "retrain", "--at", started.isoformat(), "--conf", json.dumps(conf)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*argv, "--result", str(scratch / "ended.json")],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # the runner, DVC and the trainer die with it
            process.wait()


def _follow(process: subprocess.Popen[bytes], workspace: Path) -> None:
    """Print each task as it ends; meanwhile show which one runs and the last line it printed, in a pipe now and then as a line."""
    out, printed, last_line, printed_at = console(), set[str](), "", time.monotonic()
    with out.status("starting Airflow") as status:
        while True:
            ended = process.poll() is not None
            tasks = history.read(workspace).tasks if (workspace / "run.json").is_file() else {}
            for name, result in tasks.items():
                if name not in printed:
                    printed.add(name)
                    out.print(f"  {name}: {result['status']} ({result['duration_s']:.1f} s)", markup=False, highlight=False)
            if ended:
                return
            now = _now(workspace, set(tasks))
            status.update(now)
            if not out.is_terminal and now != last_line and time.monotonic() - printed_at >= SAY_EVERY_S:
                last_line, printed_at = now, time.monotonic()
                out.print(f"  {now}", highlight=False, soft_wrap=True)
            time.sleep(POLL_S)


def _now(workspace: Path, ended: set[str]) -> str:
    logs = [path for path in workspace.glob("logs/*.log") if path.stem not in ended]
    if not logs:
        return "next task" if ended else "starting Airflow, preparing the workspace"
    newest = max(logs, key=lambda path: path.stat().st_mtime)
    lines = newest.read_text(encoding="utf-8", errors="replace").split("\n")
    last = next((line for line in reversed(lines) if line.strip()), "started").replace("[", r"\[")
    return f"{newest.stem}: {last[-100:]}"


def changed(params_file: Path, overrides: list[str], store: Path) -> dict[str, Any]:
    """What differs from the repository's own `params.yaml`, or is a parameter of the store's own, flat, for the trigger form.

    Raises:
        BadUse: a parameter is unknown or has a wrong value.
    """
    asked = params.flatten(params.load(params_file, overrides, store).model_dump(mode="json"))
    kept = params.of_store(store)  # named even where nobody changes them: a scheduler's form may be older than the store's file
    own = params.flatten(yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8")))
    return {key: value for key, value in asked.items() if key in kept or key not in own or json.dumps(own[key]) != json.dumps(value)}


def say_kept(store: Path) -> None:
    """Say which parameters hold in this store without being named on the command line."""
    if kept := params.of_store(store):
        own = ", ".join(f"{key}={value}" for key, value in kept.items())
        line = f"This store's own parameters apply ({params.own_file(store)}): {own}"
        console().print(line, markup=False, highlight=False, soft_wrap=True)


def named(store: Path) -> str:
    """How a command names this store; the default one goes without saying."""
    return "" if store == STORE_FOLDER else f" --store {shlex.quote(str(store))}"


def output(store: Path, finished: history.Run) -> Output:
    """What every task did and what was registered, with the next commands where it is shown."""
    registered = finished.tasks["register"]

    def show() -> None:
        """Print the table of tasks, and where to look next."""
        table = Table("task", "what happened", "seconds", title=f"run {finished.name}")
        for name, result in finished.tasks.items():
            table.add_row(name, result["status"], f"{result['duration_s']:.1f}")
        out = console(stderr=False, soft_wrap=True)
        out.print(table)
        out.print(f"challenger: {registered['model']} with {registered['thresholds']}; the gate says {registered['gate']}", markup=False)
        out.print(f"report: {finished.workspace}/data/evaluation/report.html\nall runs: upheld runs{named(store)}", markup=False)

    return Output({"run": finished.name, "workspace": finished.workspace, "registered": registered, "tasks": finished.tasks}, show)


@command("retrain")
def main(asked: ParamOptions = PARAM_OPTIONS, store: StoreFolder = STORE_FOLDER) -> Output:
    """Run the whole job through Airflow: snapshot to challenger."""
    conf = changed(*asked, store)
    say_kept(store)
    return output(store, run(store, conf))


@command("rerun")
def rerun_main(
    name: Annotated[str, typer.Argument(metavar="RUN", help="Run to do again, or its unique beginning; `upheld runs` lists them.")],
    stage: Annotated[str | None, typer.Option("--from", help="Stage to start from; by default the one that failed.")] = None,
    asked: ParamOptions = PARAM_OPTIONS,
    store: StoreFolder = STORE_FOLDER,
) -> Output:
    """Run a retrain again from one stage on."""
    return output(store, rerun(store, name, stage, changed(*asked, store)))


if __name__ == "__main__":
    sys.exit(main())
