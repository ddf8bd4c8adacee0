"""`dvc.yaml` to Airflow tasks: one task a stage, edges where a stage reads what another writes. The only operator factory."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import Asset, BaseOperatorLink, Param, TaskGroup, get_current_context, task
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from upheld import ROOT
from upheld.dags.runner import graph, process, run_stage, workspace

# The URI of every asset that our DAGs announce. An event is a nudge, not a queue: read past your own watermark.
LEDGER = Asset(name="ledger", uri="upheld://store/ledger")
CHALLENGER = Asset(name="challenger", uri="upheld://registry/upheld-moderation/challenger")

# JSON schema types of the trigger form. A parameter that is null by default may become any single value.
FORM_TYPES: dict[type, str | list[str]] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
    type(None): ["null", "string", "number", "boolean"],
}


class InMlflow(BaseOperatorLink):  # type: ignore[misc]  # Airflow is not typed
    """The button on a task's page that leads to the run in MLflow; Airflow works it out where the task ran, once it has ended."""

    name = "Run in MLflow"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Address of the run's page; nothing where it is not known, or the run is not in MLflow."""
        return workspace.mlflow_page(workspace.location(store_of(ROOT), ti_key.run_id)) or ""


def store_of(root: Path) -> Path:
    """The store of this deployment: UPHELD_STORE, by default the folder `store` of the repository."""
    return Path(os.environ.get("UPHELD_STORE", root / "store")).absolute()


def optional(description: str, **further: Any) -> Param:
    """A text field of a trigger form that may stay empty."""
    return Param(None, type=["null", "string"], description=description, **further)


def form(root: Path) -> dict[str, Param]:
    """The trigger form: one field for each parameter that a task of the DAG reads, named `section.key` and typed as its value is.

    Returns:
        flat name -> Airflow parameter, its value in the file as default, or in the store's own.
    """
    read = {*run_stage.FEATURE_PARAMS, *(name for stage in graph.read(root / "dvc.yaml").values() for name in stage.params)}
    flat = workspace.base_params(root, store_of(root))
    fields = {}
    for key, value in flat.items():
        if any(key == name or key.startswith(f"{name}.") for name in read):
            # Airflow's page takes an empty text for null, and refuses null unless the type allows it; `workspace.create` turns it back.
            schema: dict[str, Any] = {"type": ["null", "string"] if value == "" else FORM_TYPES[type(value)]}
            if isinstance(value, list) and value:
                schema["items"] = {"type": FORM_TYPES[type(value[0])]}  # else the page makes texts of numbers
            fields[key] = Param(value, section=key.partition(".")[0], **schema)
    return fields


def stage_tasks(root: Path) -> TaskGroup:
    """One task for every stage of the repository's `dvc.yaml`, in a task group named `stages`.

    Returns:
        the group. Its first tasks read the workspace that a task `prepare` answered with.
    """
    stages = graph.read(root / "dvc.yaml")
    with TaskGroup("stages", prefix_group_id=False) as group:
        tasks = {name: _stage_task(root, stage) for name, stage in stages.items()}
        for name, waits_for in graph.upstream(stages).items():
            for earlier in sorted(waits_for):
                tasks[earlier] >> tasks[name]
    return group


def _stage_task(root: Path, stage: graph.Stage) -> Any:
    @task(
        task_id=stage.name,
        trigger_rule="none_failed",
        pool=stage.pool,
        queue=stage.queue,
        retries=stage.retries,
        retry_delay=timedelta(seconds=30),
    )
    def run_one_stage() -> dict[str, Any]:
        """Run the stage, or find that it need not run."""
        context = get_current_context()
        prepared = context["ti"].xcom_pull(task_ids="prepare")
        force = ["--force"] if context["params"].get("from_stage") == stage.name else []
        return run_task(root, ["stage", stage.name, "--workspace", prepared["workspace"], *force])

    return run_one_stage()


def run_task(root: Path, arguments: Sequence[str]) -> dict[str, Any]:
    """Call the runner (`arguments` without store and result) inside an Airflow task, its output going to the task's log as it comes.

    Returns:
        the runner's result: paths and digests.

    Raises:
        AirflowSkipException: there was nothing to do; the result is pushed as XCom first, since later tasks read it.
        AirflowException: the process was killed; Airflow may try again.
        SystemExit: the process was told to end; Airflow tries again unless it was Airflow itself that told it.
        AirflowFailException: the work failed, and would fail again.
    """
    with tempfile.TemporaryDirectory(prefix="upheld-task-") as scratch:
        answer = Path(scratch) / "result.json"
        code = call(
            root, ["upheld.dags.runner.run_stage", *arguments, "--store", str(store_of(root)), "--result", str(answer)], sys.executable
        )
        result: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8")) if answer.exists() else {"error": f"exit code {code}"}
    if code == -signal.SIGTERM:  # so Airflow ends a task; of an exit it logs one line, of an exception the way there too
        raise SystemExit("stopped: a person ended this run, or the machine is going down")
    if code < 0 or code == run_stage.KILLED:
        raise AirflowException(f"killed: {result['error']}")
    if code:
        raise AirflowFailException(result["error"])
    if result["status"] in ("restored", "unchanged"):
        get_current_context()["ti"].xcom_push(key="return_value", value=result)
        raise AirflowSkipException(f"{result['status']}: nothing that it reads has changed")
    return result


def call(root: Path, module: Sequence[str], interpreter: str) -> int:
    """Run `python -m MODULE…` in the repository, printing what it prints. Returns its exit code."""
    with subprocess.Popen(
        [interpreter, "-m", *module], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as child:
        assert child.stdout is not None
        for line in child.stdout:
            print(line, end="", flush=True)
    return child.returncode


def run_command(root: Path, module: str, arguments: Sequence[str]) -> None:
    """Run one of our commands (`arguments` without the store) in the interpreter of the stages.

    Raises:
        AirflowFailException: it refused or failed; its last line in the task's log says why.
    """
    code = call(root, [module, *arguments, "--store", str(store_of(root))], process.interpreter())
    if code:
        raise AirflowFailException(f"{module} exited with {code}; its last line says why")


def command_result(root: Path, module: str, arguments: Sequence[str], option: str = "--result") -> dict[str, Any]:
    """Run one of our commands as `run_command` does, and give the JSON that it writes to the file which `option` names."""
    with tempfile.TemporaryDirectory(prefix="upheld-command-") as scratch:
        path = Path(scratch) / "result.json"
        run_command(root, module, [*arguments, option, str(path)])
        result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return result
