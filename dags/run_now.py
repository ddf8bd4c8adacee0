"""Run one DAG from start to end in this process, as `airflow dags test` does, with a run id known beforehand.

usage: python -m dags.run_now retrain --at 2026-08-31T12:00:00+00:00 --conf '{"text.epochs": 1}'
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pendulum


def run(dag_id: str, dags_folder: Path, at: str, conf: dict[str, Any]) -> dict[str, Any]:
    """Make the metadata database if there is none, then run every task of the DAG here, one after the other.

    Args:
        dag_id: DAG to run.
        dags_folder: folder with the DAG files.
        at: ISO time of the run, which names it: `manual__` + the time.
        conf: what the trigger form would hold.

    Returns:
        {"run_id", "state", "tasks": {task id: state}}.

    Raises:
        ValueError: the folder has no such DAG, or one of its files does not load.
    """
    from airflow.dag_processing.dagbag import DagBag
    from airflow.utils import db

    db.initdb()
    bag = DagBag(str(dags_folder))
    if dag_id not in bag.dags:
        raise ValueError(f"{dags_folder}: no DAG {dag_id!r}; import errors: {bag.import_errors or 'none'}")
    time = pendulum.parse(at)
    done = bag.dags[dag_id].test(run_after=time, logical_date=time, run_conf=conf)
    return {"run_id": done.run_id, "state": str(done.state), "tasks": {ti.task_id: str(ti.state) for ti in done.get_task_instances()}}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the DAG and write how its tasks ended. Returns 0 where all is well, else 1."""
    parser = argparse.ArgumentParser(description="Run one DAG from start to end in this process")
    parser.add_argument("dag_id")
    parser.add_argument("--dags", type=Path, default=Path(__file__).parent, help="folder with the DAG files")
    parser.add_argument("--at", required=True, help="ISO time that names the run")
    parser.add_argument("--conf", default="{}", help="JSON: what the trigger form would hold")
    parser.add_argument("--result", type=Path, required=True, help="JSON to write: run id, state, state of every task")
    args = parser.parse_args(argv)
    ended = run(args.dag_id, args.dags, args.at, json.loads(args.conf))
    args.result.write_text(json.dumps(ended), encoding="utf-8")
    return 0 if ended["state"] == "success" else 1


if __name__ == "__main__":
    sys.exit(main())
