"""Run one DAG from start to end and wait for it, with a run id known beforehand.

usage: python -m upheld.dags.runner.run_now retrain --at 2026-08-31T12:00:00+00:00 --conf '{"text.epochs": 1}' --result FILE
       python -m upheld.dags.runner.run_now database    (only make Airflow's tables and pools)
"""

import argparse
import json
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pendulum

from upheld import ROOT
from upheld.dags.runner import graph
from upheld.dags.runner.process import die_with_parent

POLL_S = 2.0
SLOTS = 1  # stages of one pool share what it stands for (memory, the accelerator), so they run one after the other


def initialise(root: Path) -> None:
    """Make or migrate the tables and make the pools that are missing; slots that somebody changed stay as they are."""
    from airflow.models.pool import Pool
    from airflow.utils import db

    logging.getLogger("alembic").setLevel(logging.WARNING)
    db.initdb()
    for name in sorted({stage.pool for stage in graph.read(root / "dvc.yaml").values()}):
        if Pool.get_pool(name) is None:
            Pool.create_or_update_pool(name, slots=SLOTS, description="from dvc.yaml", include_deferred=False)


def run(dag_id: str, at: str, conf: dict[str, Any]) -> dict[str, Any]:
    """Run every task of the DAG, in this process unless a scheduler would run it at the same time.

    A live scheduler takes up every unfinished run of a DAG that is not paused, so there the run is handed to it.

    Args:
        dag_id: DAG of this folder.
        at: ISO time of the run, which names it: `manual__` + the time.
        conf: what the trigger form would hold.

    Returns:
        {"run_id", "state", "tasks": {task id: state}}.

    Raises:
        ValueError: the folder has no such DAG, or one of its files does not load.
    """
    from airflow.dag_processing.dagbag import DagBag
    from airflow.jobs.job import most_recent_job
    from airflow.models.dag import DagModel
    from airflow.sdk.listener import get_listener_manager

    from upheld.dags.runner.task_logs import TaskLogs

    initialise(ROOT)
    moment = pendulum.parse(at)
    job, model = most_recent_job("SchedulerJob"), DagModel.get_current(dag_id)
    if job is not None and job.is_alive() and model is not None and not model.is_paused:
        done = _through_scheduler(dag_id, moment, conf)
    else:
        bag = DagBag(str(ROOT / "dags"))
        if dag_id not in bag.dags:
            raise ValueError(f"{ROOT / 'dags'}: no DAG {dag_id!r}; import errors: {bag.import_errors or 'none'}")
        get_listener_manager().add_listener(TaskLogs())
        done = bag.dags[dag_id].test(run_after=moment, logical_date=moment, run_conf=conf)
    return {"run_id": done.run_id, "state": str(done.state), "tasks": {ti.task_id: str(ti.state) for ti in done.get_task_instances()}}


def _through_scheduler(dag_id: str, moment: Any, conf: dict[str, Any]) -> Any:
    from airflow.api.common.trigger_dag import trigger_dag
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from airflow.utils.types import DagRunTriggeredByType

    run_id = f"manual__{moment.isoformat()}"
    trigger_dag(dag_id, triggered_by=DagRunTriggeredByType.CLI, run_id=run_id, conf=conf, logical_date=moment, replace_microseconds=False)
    print(f"handed to the running scheduler as {run_id}", flush=True)
    while True:
        with create_session() as session:
            (found,) = DagRun.find(dag_id=dag_id, run_id=run_id, session=session)
            session.expunge_all()
        if str(found.state) in ("success", "failed"):
            return found
        time.sleep(POLL_S)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the DAG and write how its tasks ended. Returns 0 where all is well, else 1."""
    parser = argparse.ArgumentParser(description="Run one DAG from start to end and wait for it")
    parser.add_argument("dag_id")
    parser.add_argument("--at", required=True, help="ISO time that names the run")
    parser.add_argument("--conf", default="{}", help="JSON: what the trigger form would hold")
    parser.add_argument("--result", type=Path, required=True, help="JSON to write: run id, state, state of every task")
    args = parser.parse_args(argv)
    die_with_parent()
    ended = run(args.dag_id, args.at, json.loads(args.conf))
    args.result.write_text(json.dumps(ended), encoding="utf-8")
    return 0 if ended["state"] == "success" else 1


if __name__ == "__main__":
    if sys.argv[1:] == ["database"]:
        initialise(ROOT)
    else:
        sys.exit(main())
