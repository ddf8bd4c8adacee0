"""What is in production: one model and thresholds pinned to it, who approved them, and what they replaced.

Every change is written down in the store before an alias moves, so that a crash between two moves can be finished from the record.
An alias that the record does not explain was moved by other means, and is not taken.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from upheld.common.errors import BadUse, FailedWork
from upheld.registry.approvals import log as approval_log
from upheld.registry.approvals import verified
from upheld.registry.approvals.log import Action, Approval, Pair
from upheld.registry.tracking import mlflow_store
from upheld.registry.tracking.mlflow_store import Registry, Version

ALIAS = "champion"
CHALLENGER = "challenger"
MAX_TEXT_CHARS = 2000  # of a note or a reason


class Answer(NamedTuple):
    """Who answers (None: nobody did), why, and the reason to approve what the gate holds."""

    approver: str | None
    note: str = ""
    despite_hold: str | None = None


def current(registry: Registry) -> Pair:
    """What alias `champion` names now, whoever moved it there."""
    found = (mlflow_store.by_alias(registry, name, ALIAS) for name in (mlflow_store.MODEL, mlflow_store.THRESHOLDS))
    return Pair(*(version.number if version else None for version in found))


def approved(store: Path) -> Pair:
    """What a person put into production last, as the store's record has it."""
    last = next(reversed(approval_log.changes(store)), None)
    return Pair() if last is None else last.after


def in_production(store: Path, registry: Registry) -> Pair:
    """What alias `champion` names and a person approved; nothing where neither speaks of anything.

    Raises:
        FailedWork: alias and record differ; the message names both, and the commands that mend it.
    """
    now, on_record = current(registry), approved(store)
    if now != on_record:
        command = "`upheld promote --model {} --thresholds {} --approver NAME`"
        mend = [command.format(pair.model, pair.thresholds or "VERSION") for pair in (now, on_record) if pair.model]
        raise FailedWork(
            f"alias champion names {now}, but the last approval in {approval_log.folder_of(store)} is of {on_record}; "
            f"look at what you want in production and run {' or '.join(mend)}"
        )
    return now


def thresholds_of(store: Path, registry: Registry, model: Version) -> Version:
    """The thresholds in force for a model.

    Returns:
        those approved for it last, else those that were registered together with it.

    Raises:
        BadUse: it has none.
    """
    chosen = next((item.after.thresholds for item in reversed(approval_log.changes(store)) if item.after.model == model.number), None)
    if chosen is not None:
        return mlflow_store.resolve(registry, mlflow_store.THRESHOLDS, str(chosen))
    versions = mlflow_store.versions(registry, mlflow_store.THRESHOLDS)
    born = [item for item in versions if item.run_id == model.run_id and item.tags.get("upheld.model_version") == model.label]
    if not born:
        raise BadUse(f"{model.label}: no thresholds are registered for it; a threshold never passes to another model's scale")
    return born[-1]


def held(store: Path, model: Version, thresholds: Version) -> list[str]:
    """Labels of what would be new in production and does not have the gate's consent; one without a verdict has none."""
    now = approved(store)
    new = [model] if model.number != now.model else []
    if thresholds.run_id != model.run_id or not new:
        new.append(thresholds)
    return [version.label for version in new if version.tags.get("upheld.gate") != "promote"]


def move(store: Path, registry: Registry, action: Action, model: Version, thresholds: Version, answer: Answer) -> Approval:
    """Write the approval down, then let alias `champion` name the two.

    Args:
        store: folder with the record.
        action: "promote" or "rollback".
        model, thresholds: what goes into production; their files must be those that were registered.
        answer: who approves, and why.

    Raises:
        BadUse: approver is blank, a text is too long, or a version carries no digest.
        FailedWork: files are not those that were registered.
    """
    verified.bundle(store, registry, model)
    verified.thresholds(store, registry, thresholds)
    approval = note(store, registry, action, model, thresholds, answer)
    _point(registry, approval)
    return approval


def note(store: Path, registry: Registry, action: Action, model: Version, thresholds: Version, answer: Answer) -> Approval:
    """Write an answer down; nothing moves by it.

    Raises:
        BadUse: approver is blank, or a text is too long.
    """
    if answer.approver is not None and not answer.approver.strip():
        raise BadUse("--approver: expected the name of the person who answers")
    too_long = next((text for text in answer if text and len(text) > MAX_TEXT_CHARS), None)
    if too_long is not None:
        raise BadUse(f"{too_long[:40]!r}…: expected at most {MAX_TEXT_CHARS} characters, found {len(too_long)}")
    approval = Approval(
        action=action,
        after=Pair(model.number, thresholds.number),
        before=current(registry),
        approver=answer.approver and answer.approver.strip(),
        note=answer.note,
        despite_hold=answer.despite_hold,
        gate="hold" if held(store, model, thresholds) else "promote",
        bundle_sha256=verified.expected(store, model),
        thresholds_sha256=verified.expected(store, thresholds),
        at=datetime.now(UTC),
    )
    approval_log.append(store, approval)
    return approval


def settle(store: Path, registry: Registry) -> None:
    """Finish the last change where a crash left it written down and an alias not moved."""
    last = next(reversed(approval_log.changes(store)), None)
    if last and current(registry) in (last.before, Pair(last.after.model, last.before.thresholds)):
        _point(registry, last)


def before(store: Path, registry: Registry) -> Pair:
    """What was in production before the champion.

    Returns:
        the pair that was approved before the last promotion which no rollback has undone.

    Raises:
        BadUse: there was nothing before.
        FailedWork: as `in_production`.
    """
    now = in_production(store, registry)
    line = [Pair()]  # what one can go back to, the present last
    for approval in approval_log.changes(store):
        if approval.action == "rollback":
            line.pop()
        elif approval.after != line[-1]:
            line.append(approval.after)
    if len(line) < 2 or line[-2] == Pair():
        raise BadUse(f"there is nothing to go back to: {now} has no predecessor on record")
    return line[-2]


def _point(registry: Registry, approval: Approval) -> None:
    """The model first. The tags are for who looks in MLflow; nothing reads them."""
    tags = {
        "upheld.approved_by": approval.approver or "",
        "upheld.approved_at": approval.at.isoformat(),
        "upheld.approval_note": approval.note,
        "upheld.replaced": str(approval.before),
        "upheld.despite_hold": approval.despite_hold or "",
    }
    for name, number in ((mlflow_store.MODEL, approval.after.model), (mlflow_store.THRESHOLDS, approval.after.thresholds)):
        version = mlflow_store.resolve(registry, name, str(number))
        mlflow_store.tag_version(registry, version, tags)
        mlflow_store.point_alias(registry, ALIAS, version)
