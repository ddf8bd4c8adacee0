"""A question to a person: yes or no, with the time until which it can be answered; silence is a no."""

from collections.abc import Mapping
from typing import Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Param, timezone


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
