"""Print as JSON what Airflow makes of a folder of DAG files. A script, so that Airflow stays out of the test process."""

import json
import sys

from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import Param
from airflow.sdk.exceptions import ParamValidationError

LOADS = 3  # the quickest counts: on a busy machine the others measure its other work


def describe(folder: str) -> dict[str, object]:
    """Import errors, seconds a file, and for every DAG its tasks, edges, schedule, form, and what its card says."""
    bags = [DagBag(folder) for _ in range(LOADS)]
    bag = bags[0]
    dags = {
        dag_id: {
            "edges": sorted([task.task_id, later] for task in dag.tasks for later in task.downstream_task_ids),
            "tasks": {
                task.task_id: {"rule": task.trigger_rule.value, "pool": task.pool, "queue": task.queue, "retries": task.retries}
                for task in dag.tasks
            },
            "schedule": str(dag.schedule),
            "form": {key: field(dag.params.get_param(key)) for key in dag.params},
            "owners": sorted({task.owner for task in dag.tasks}),
            "description": dag.description,
            "name": dag.dag_display_name,
            "outlets": {task.task_id: [asset.uri for asset in task.outlets] for task in dag.tasks if task.outlets},
        }
        for dag_id, dag in bag.dags.items()
    }
    seconds = {stat.file: min(_seconds(bag, stat.file) for bag in bags) for stat in bag.dagbag_stats}
    return {"errors": bag.import_errors, "seconds": seconds, "dags": dags}


def field(param: Param) -> dict[str, object]:
    """What Airflow's page is told of a field, and what Airflow says of its default."""
    try:
        param.resolve()
        refusal = None
    except ParamValidationError as error:
        refusal = str(error)
    return {"schema": param.schema, "default": param.value, "refusal": refusal}


def _seconds(bag: DagBag, file: str) -> float:
    return next(stat.duration.total_seconds() for stat in bag.dagbag_stats if stat.file == file)


if __name__ == "__main__":
    described = describe(sys.argv[1])
    with open(sys.argv[2], "w", encoding="utf-8") as file:
        json.dump(described, file)
