"""A run of MLflow's while it lasts: begun, told how it goes, ended, or begun again."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, NamedTuple

from upheld.registry.tracking.mlflow_store import Registry

FAILED_TASK = "upheld.failed_task"  # tag of a run that failed: at which task
# Who only shows how a run goes gives up soon where MLflow is a server that does not answer; MLflow itself would try for minutes.
IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
TRAINING_RUNS = ("mlflow.experimentKind", "custom_model_development")  # tag of an experiment whose pages list its runs as trainings
MAX_BATCH = 1000  # figures, MLflow's limit of one call
SAMPLE_EVERY_S = 10.0  # MLflow's own default


def begin(registry: Registry, name: str, tags: Mapping[str, str]) -> str:
    """A new run, which is RUNNING. Returns its id."""
    registry.client.set_experiment_tag(registry.experiment_id, *TRAINING_RUNS)
    return str(registry.client.create_run(registry.experiment_id, tags=dict(tags), run_name=name).info.run_id)


def known(registry: Registry, run_id: str) -> bool:
    """Whether there is such a run, which nobody has deleted."""
    try:
        return str(registry.client.get_run(run_id).info.lifecycle_stage) == "active"
    except registry.mlflow.exceptions.MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise


def go_on(registry: Registry, run_id: str) -> None:
    """Let a run that had ended be RUNNING again, as after a failed task that is tried once more."""
    run = registry.client.get_run(run_id)
    if run.info.status != "RUNNING":
        registry.client.update_run(run_id, status="RUNNING")
    if FAILED_TASK in run.data.tags:
        registry.client.delete_tag(run_id, FAILED_TASK)


def end(registry: Registry, run_id: str, status: Literal["FINISHED", "FAILED", "KILLED"], tags: Mapping[str, str]) -> None:
    """Tag a run and end it."""
    for key, value in tags.items():
        registry.client.set_tag(run_id, key, value)
    registry.client.set_terminated(run_id, status)


def running(registry: Registry) -> dict[str, str]:
    """Name -> id of the runs that are RUNNING, as far as MLflow knows."""
    found = registry.client.search_runs([registry.experiment_id], "attributes.status = 'RUNNING'")
    return {str(run.info.run_name): str(run.info.run_id) for run in found}


class Point(NamedTuple):
    """One point of a curve: name of the figure, step, time in milliseconds since 1970, finite value."""

    name: str
    step: int
    time: int
    value: float


class Points:
    """The curves of a run. No point is logged twice, whoever logged it first.

    Args:
        registry: where the run is.
        run_id: of the run.
    """

    def __init__(self, registry: Registry, run_id: str) -> None:
        self._client, self._run_id = registry.client, run_id
        self._steps: dict[str, set[int]] = {}

    def add(self, points: Iterable[Point]) -> None:
        """Log the points whose curve has nothing at their step yet; of several for one step, the first."""
        from mlflow.entities import Metric

        new: dict[tuple[str, int], Point] = {}
        for point in points:
            if point.name not in self._steps:
                self._steps[point.name] = {metric.step for metric in self._client.get_metric_history(self._run_id, point.name)}
            if point.step not in self._steps[point.name]:
                new.setdefault((point.name, point.step), point)
        metrics = [Metric(point.name, point.value, point.time, point.step) for point in new.values()]
        for start in range(0, len(metrics), MAX_BATCH):
            self._client.log_batch(self._run_id, metrics=metrics[start : start + MAX_BATCH])
        for name, step in new:
            self._steps[name].add(step)


@contextmanager
def system_metrics(run_id: str) -> Iterator[None]:
    """Log how busy this machine is (processor, memory, disk, network, NVIDIA's and AMD's accelerators) as long as the block runs.

    Where an earlier block of the run has logged some, it goes on after the last. It ends early when MLflow does not answer.
    """
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    monitor = SystemMetricsMonitor(run_id, sampling_interval=SAMPLE_EVERY_S, resume_logging=True)
    monitor.start()
    try:
        yield
    finally:
        monitor.finish()
