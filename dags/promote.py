"""Ask a person before anything changes in production: a challenger, or new thresholds of the champion.

Runs when a challenger is announced, or by hand. Silence is a no, and a no changes nothing.
"""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import Param, dag, get_current_context, task, timezone
from airflow.sdk.exceptions import AirflowSkipException

from upheld.dags.runner.tasks import CHALLENGER, command_result, optional, store_of
from upheld.dags.runner.workspace import base_params

ROOT = Path(__file__).resolve().parents[1]
FORM = {
    "model": optional("Version or alias; empty: the challenger, or the champion of the thresholds"),
    "thresholds": optional("Version of the thresholds; empty: those of the model"),
}
NOTE = optional("May stay empty. It is kept on record.", title="Why do you decide so?")
REASON = (
    Param(  # a field that is required and empty keeps the page's buttons grey; that it is long enough, registry/production/answer.py checks
        None,
        type="string",
        minLength=10,
        title="Why do you decide so, although or because the gate holds this?",
        description="Required for either answer: at least 10 characters. It is kept on record.",
    )
)


class Question(HITLOperator):  # type: ignore[misc]
    """Airflow's question with a page of its own, except that what comes after it always runs and learns what was answered.

    Airflow's ApprovalOperator skips what comes after a no, so that nobody could write the no down.
    """

    APPROVE = "Approve"
    REJECT = "Reject"

    body: str

    def __init__(self, *, fields: Mapping[str, Param], **kwargs: Any) -> None:
        """Take what HITLOperator takes but options, defaults and params; `response_timeout` is needed.

        Args:
            fields: of the form beside the two buttons. As `params` Airflow would check them before the question is put, and fail
                where one that is required has no value yet.
            kwargs: of the operator.
        """
        self.fields = fields
        super().__init__(options=[self.APPROVE, self.REJECT], defaults=self.REJECT, **kwargs)

    @property
    def serialized_params(self) -> dict[str, dict[str, Any]]:
        """The form's fields, as the page reads them."""
        return {name: field.serialize() for name, field in self.fields.items()}

    def execute(self, context: Any) -> Any:
        """Put the question, saying first until when it can be answered: another try has another deadline."""
        assert self.response_timeout is not None
        deadline = timezone.utcnow() + self.response_timeout
        self.body = f"**Please answer before {deadline:%Y-%m-%d %H:%M} UTC.** Without an answer by then nothing changes.\n\n{self.body}"
        return super().execute(context)

    def validate_params_input(self, params_input: Mapping[str, Any]) -> None:
        """Leave the fields to what comes after: Airflow would fail the task of a person who left one empty, and after silence too."""


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
    """Describe the change, wait for a person, carry out what they say, and write it down."""

    @task.branch
    def describe() -> str:
        """What would change and what speaks for it; which question to put. Nothing to ask where it is in production already."""
        context = get_current_context()
        asked = {key: context["params"][key] for key in FORM}
        proposal = command_result(
            ROOT, "upheld.registry.production.promote", ["--describe", *(f"--{key}={value}" for key, value in asked.items() if value)]
        )
        if proposal["status"] == "nothing":
            raise AirflowSkipException(proposal["body"])
        context["ti"].xcom_push(key="proposal", value=proposal)
        return "approve_held" if proposal["held"] else "approve"

    questions = [
        Question(
            task_id=task_id,
            subject="{{ ti.xcom_pull(task_ids='describe', key='proposal')['subject'] }}",
            body="{{ ti.xcom_pull(task_ids='describe', key='proposal')['body'] }}",
            response_timeout=timedelta(hours=base_params(ROOT, store_of(ROOT))["promote.response_timeout_h"]),
            fields=fields,
            # Airflow 3.3 fails a task that is answered before its scheduler has heard that the asking process ended: it takes that end
            # for one of the process which resumes (SchedulerJobRunner.process_executor_events spares `scheduled` tasks, not queued ones).
            # The person is then asked again instead of being ignored.
            retries=2,
            retry_delay=timedelta(seconds=5),
        )
        for task_id, fields in (("approve", {"note": NOTE}), ("approve_held", {"reason": REASON}))
    ]

    @task.short_circuit(trigger_rule="none_failed_min_one_success")
    def record() -> dict[str, Any]:
        """Move alias `champion` after a yes, and write every answer down; nothing follows unless a yes could not be carried out."""
        ti = get_current_context()["ti"]
        proposal = ti.xcom_pull(task_ids="describe", key="proposal")
        answer = ti.xcom_pull(task_ids="approve_held" if proposal["held"] else "approve")
        form, person = answer["params_input"], answer["responded_by_user"]
        kind = "timeout" if person is None else "approve" if answer["chosen_options"] == [Question.APPROVE] else "reject"
        given = [f"--{key.replace('_', '-')}={proposal[key]}" for key in ("model", "thresholds", "instead_of")]
        reason = "despite-hold" if proposal["held"] and kind == "approve" else "note"
        why = form.get("reason" if proposal["held"] else "note") or ""
        done = command_result(
            ROOT,
            "upheld.registry.production.answer",
            [f"--answer={kind}", *given, f"--by={(person or {}).get('name', '')}", f"--{reason}={why}"],
        )
        print(f"{done['status']} {done['why']}")
        return proposal if done["status"] == "refused" else {}

    ask_again = TriggerDagRunOperator(
        task_id="ask_again",
        trigger_dag_id="promote",
        conf={key: f"{{{{ ti.xcom_pull(task_ids='record')['{key}'] }}}}" for key in FORM},
    )

    describe() >> questions >> record() >> ask_again


promote()
