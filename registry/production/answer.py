"""Carry out what a person answered to a question about production, and write the answer down, whatever it was.

usage: python -m upheld.registry.production.answer --answer approve --model 4 --thresholds 4 --instead-of "model 3 …" --by NAME
"""

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from upheld.common.command import STORE_FOLDER, Output, StoreFolder, command
from upheld.common.errors import BadUse, FailedWork
from upheld.registry.approvals.log import ANSWERS
from upheld.registry.production import champion, promote, proposal
from upheld.registry.tracking import mlflow_store

MIN_REASON_CHARS = 10  # to approve what the gate holds, as the question's form has it
Answer = Literal["approve", "reject", "timeout"]


def run(store: Path, answer: Answer, model: str, thresholds: str, instead_of: str, by: str, note: str, despite_hold: str) -> dict[str, Any]:
    """Promote after a yes; write down a no, a silence, and a yes that cannot be carried out.

    Args:
        store: folder with the registry and the record of approvals.
        answer: what was answered.
        model, thresholds: versions that were asked about.
        instead_of: what was in production when the question was put, as `proposal.run` says it.
        by: who answered; not read where nobody did.
        despite_hold: reason to approve what the gate holds.

    Returns:
        {"status": "promoted", "rejected", "no answer in time" or "refused", "why"}; `why` says what stood against a yes.

    Raises:
        BadUse: a version is unknown, `by` is blank, or a text is too long.
        FailedWork: MLflow cannot be opened.
    """
    registry = mlflow_store.connect(store)
    why = ""
    if answer == "approve":
        try:
            if despite_hold and len(despite_hold.strip()) < MIN_REASON_CHARS:
                raise BadUse(f"the reason has {len(despite_hold.strip())} characters; at least {MIN_REASON_CHARS} are wanted")
            done = promote.run(store, model, thresholds, approver=by, note=note, despite_hold=despite_hold, instead_of=instead_of)
            if done["status"] == "promoted":
                return {"status": "promoted", "why": ""}
            why = f"{done['model']} with {done['thresholds']} is in production already"
        except (BadUse, FailedWork) as error:
            why = str(error)
    action = "refused" if answer == "approve" else answer
    chosen, bounds = proposal.choose(store, registry, model, thresholds)
    reason = "; ".join(text for text in (why, note) if text)[: champion.MAX_TEXT_CHARS]
    given = champion.Answer(None if action == "timeout" else by, reason, despite_hold or None)
    champion.note(store, registry, action, chosen, bounds, given)
    return {"status": "refused" if why else ANSWERS[action], "why": why}


@command("answer")
def main(
    answer: Annotated[Answer, typer.Option(help="What was answered.")],
    model: Annotated[str, typer.Option(help="Version that was asked about.")],
    thresholds: Annotated[str, typer.Option(help="Version of the thresholds that was asked about.")],
    instead_of: Annotated[str, typer.Option(help="What was in production when it was asked.")],
    by: Annotated[str, typer.Option(help="Who answered.")] = "",
    note: Annotated[str, typer.Option(help="Why.")] = "",
    despite_hold: Annotated[str, typer.Option(help="Reason to approve what the gate holds.")] = "",
    result: Annotated[Path | None, typer.Option(help="JSON to write with what was done.")] = None,
    store: StoreFolder = STORE_FOLDER,
) -> Output:
    """Carry out an answer and write it down."""
    outcome = run(store, answer, model, thresholds, instead_of, by, note, despite_hold)
    return Output(outcome, f"{outcome['status']}{': ' if outcome['why'] else ''}{outcome['why']}", result=result)


if __name__ == "__main__":
    sys.exit(main())
