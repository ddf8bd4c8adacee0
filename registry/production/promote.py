"""Put a registered model, or new thresholds of the champion, into production, or put back what was there before; approvers go on record.

usage: upheld promote --model 4 --approver NAME --note TEXT
       upheld promote --thresholds 7 --approver NAME --note TEXT
       upheld promote --describe
       upheld rollback --approver NAME --note TEXT    (again goes one further back)
"""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from upheld.common.command import STORE_FOLDER, Output, StoreFolder, command
from upheld.common.errors import BadUse, FailedWork
from upheld.registry.approvals import log as approval_log
from upheld.registry.approvals.log import Approval, Pair
from upheld.registry.production import champion, proposal
from upheld.registry.tracking import mlflow_store
from upheld.registry.tracking.mlflow_store import Version


def run(
    store: Path,
    model: str | None,
    thresholds: str | None,
    *,
    approver: str,
    note: str,
    despite_hold: str | None = None,
    instead_of: str | None = None,
) -> dict[str, Any]:
    """Let alias `champion` name a model and its thresholds; what is there already with an approval on record is left.

    Args:
        store: folder with the registry.
        model, thresholds: version or alias, as `proposal.choose` takes them.
        despite_hold: reason to promote what the gate holds.
        instead_of: what the approver saw it compared with, as `proposal.run` says it; None does not ask.

    Returns:
        {"status": "promoted" or "unchanged", "model", "thresholds", "before", "approver", "at"}; labels, and approver and
        time of the approval in force.

    Raises:
        BadUse: no such version, thresholds of another model, no approver, or the gate holds and no reason is given.
        FailedWork: something else went into production since `instead_of` was said, or files are not those that were registered.
    """
    registry = mlflow_store.connect(store, create=False)
    champion.settle(store, registry)
    chosen, bounds = proposal.choose(store, registry, model, thresholds)
    now = champion.current(registry)
    if now == champion.approved(store) == Pair(chosen.number, bounds.number):
        return _outcome("unchanged", chosen, bounds, approval_log.changes(store)[-1])
    if instead_of is not None and instead_of != str(now):
        raise FailedWork(f"approved as a change from {instead_of}, but now {now} is in production; look at the change again")
    held = champion.held(store, chosen, bounds)
    if held and not (despite_hold or "").strip():
        raise BadUse(f"the gate holds {' and '.join(held)}; its report says why, and --despite-hold REASON overrules it")
    given = champion.Answer(approver, note, despite_hold if held else None)
    return _outcome("promoted", chosen, bounds, champion.move(store, registry, "promote", chosen, bounds, given))


def _outcome(status: str, model: Version, thresholds: Version, approval: Approval) -> dict[str, Any]:
    """What `run` and `rollback` answer."""
    of = {"before": asdict(approval.before), "approver": approval.approver, "at": approval.at.isoformat()}
    return {"status": status, "model": model.label, "thresholds": thresholds.label, **of}


def rollback(store: Path, approver: str, note: str) -> dict[str, Any]:
    """Let alias `champion` name what the last promotion replaced; no gate is asked, since it was in production.

    Returns:
        {"status": "rolled back", "model", "thresholds", "before", "approver", "at"}.

    Raises:
        BadUse: nothing was in production before, or no approver is named.
        FailedWork: alias champion was moved by other means, or the files are no longer those that were approved.
    """
    registry = mlflow_store.connect(store, create=False)
    champion.settle(store, registry)
    target = champion.before(store, registry)
    model = mlflow_store.resolve(registry, mlflow_store.MODEL, str(target.model))
    thresholds = mlflow_store.resolve(registry, mlflow_store.THRESHOLDS, str(target.thresholds))
    approval = champion.move(store, registry, "rollback", model, thresholds, champion.Answer(approver, note))
    return _outcome("rolled back", model, thresholds, approval)


@command("promote")
def main(
    model: Annotated[str | None, typer.Option(help="Version or alias; with its thresholds [challenger].")] = None,
    thresholds: Annotated[str | None, typer.Option(help="Version of the thresholds; alone, of the champion's.")] = None,
    approver: Annotated[str, typer.Option(help="Who approves.")] = "",
    note: Annotated[str, typer.Option(help="Why.")] = "",
    despite_hold: Annotated[str | None, typer.Option(help="Reason to promote what the gate holds.")] = None,
    instead_of: Annotated[str | None, typer.Option(help="Refuse if something else is in production by now.")] = None,
    describe: Annotated[bool, typer.Option("--describe", help="Say what would change; change nothing.")] = False,
    result: Annotated[Path | None, typer.Option(help="JSON to write with what is printed.")] = None,
    store: StoreFolder = STORE_FOLDER,
) -> Output:
    """Put a registered model, or new thresholds of the champion, into production."""
    if describe:
        answer = proposal.run(store, model, thresholds)
        text = f"{answer['subject']}\n\n{answer['body']}"
    else:
        answer = run(store, model, thresholds, approver=approver, note=note, despite_hold=despite_hold, instead_of=instead_of)
        text = f"{answer['status']}: {answer['model']} with {answer['thresholds']} at alias champion"
    return Output(answer, text, result=result)


@command("rollback")
def rollback_main(
    approver: Annotated[str, typer.Option(help="Who decides.")],
    note: Annotated[str, typer.Option(help="Why.")] = "",
    store: StoreFolder = STORE_FOLDER,
) -> Output:
    """Put back what was in production before."""
    answer = rollback(store, approver, note)
    return Output(answer, f"rolled back to {answer['model']} with {answer['thresholds']} at alias champion")


if __name__ == "__main__":
    sys.exit(main())
