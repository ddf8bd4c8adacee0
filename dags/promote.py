"""Ask a person before anything changes in production: a challenger, or new thresholds of the champion.

Runs when a challenger is announced, or by hand. Silence is a no, and a no changes nothing.
"""

import json
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Param, dag, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from dags.assets import CHALLENGER
from dags.process import interpreter
from dags.stages import call, store_of
from dags.workspace import base_params

ROOT = Path(__file__).resolve().parents[1]
FORM = {
    "model": Param(None, type=["null", "string"], description="Version or alias; empty: the challenger, or the champion of the thresholds"),
    "thresholds": Param(None, type=["null", "string"], description="Version of the thresholds; empty: those of the model"),
}
ANSWER = {  # may be null, or Airflow's page accepts no answer without them
    "note": Param(None, type=["null", "string"], description="Why, for the record"),
    "despite_hold": Param(None, type=["null", "string"], description="Reason to approve what the gate holds"),
}


# Several proposals may wait at once: an answer counts only while what it was compared with is still in production.
@dag(
    dag_display_name="Promote: approve a change",
    description="Asks a person before a challenger or new thresholds go into production. Whenever one is announced, or by hand.",
    default_args={"owner": "trust-and-safety"},
    schedule=[CHALLENGER],
    catchup=False,
    params=FORM,
    tags=["upheld"],
    doc_md=__doc__,
)
def promote() -> None:
    """Describe the change, wait for a person, make it."""

    @task
    def describe() -> dict[str, Any]:
        """What would change and what speaks for it; nothing to ask where it is in production already."""
        asked = {key: get_current_context()["params"][key] for key in FORM}
        told = registry(["--describe", *(f"--{key}={value}" for key, value in asked.items() if value)])
        if told["status"] == "nothing":
            raise AirflowSkipException(told["body"])
        return told

    approve = ApprovalOperator(
        task_id="approve",
        subject="{{ ti.xcom_pull(task_ids='describe')['subject'] }}",
        body="{{ ti.xcom_pull(task_ids='describe')['body'] }}",
        defaults="Reject",
        response_timeout=timedelta(hours=base_params(ROOT, store_of(ROOT))["promote.response_timeout_h"]),
        params=ANSWER,
        # Airflow 3.3 fails a task that is answered before its scheduler has heard that the asking process ended: it takes that end for
        # one of the process which resumes (SchedulerJobRunner.process_executor_events spares `scheduled` tasks, not queued ones).
        # The person is then asked again instead of being ignored.
        retries=2,
        retry_delay=timedelta(seconds=5),
    )

    @task
    def apply() -> dict[str, Any]:
        """Move alias `champion` in the name of whoever answered."""
        ti = get_current_context()["ti"]
        told, answer = ti.xcom_pull(task_ids="describe"), ti.xcom_pull(task_ids="approve")
        person = (answer or {}).get("responded_by_user")
        if not person or answer["chosen_options"] != [ApprovalOperator.APPROVE]:  # however this task came to run
            raise AirflowFailException("nobody approved this, so nothing moves")
        said = answer["params_input"]
        reason = [f"--despite-hold={said['despite_hold']}"] if said.get("despite_hold") else []
        shown = [f"--{key.replace('_', '-')}={told[key]}" for key in ("model", "thresholds", "instead_of")]
        return registry([*shown, f"--approver={person['name']}", f"--note={said.get('note') or ''}", *reason])

    describe() >> approve >> apply()


def registry(arguments: list[str]) -> dict[str, Any]:
    """Call `upheld promote` in the interpreter of the stages.

    Args:
        arguments: of `registry/promote.py`, without store and result.

    Returns:
        its result.

    Raises:
        AirflowFailException: it refused or failed; its last line in the task's log says why.
    """
    with tempfile.TemporaryDirectory(prefix="upheld-promote-") as scratch:
        result = Path(scratch) / "result.json"
        code = call(ROOT, ["registry.promote", *arguments, "--store", str(store_of(ROOT)), "--result", str(result)], interpreter())
        if code:
            raise AirflowFailException(f"upheld promote exited with {code}; its last line says why")
        answer: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return answer


promote()
