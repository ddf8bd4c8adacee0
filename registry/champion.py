"""What is in production: one model and thresholds pinned to it, who approved them, and what they replaced.

Every change is written down before an alias moves, so that a crash between two moves can be finished from the record.
"""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from feature_store.errors import BadUse, FailedWork
from registry import mlflow_store
from registry.mlflow_store import Registry, Version

ALIAS = "champion"
CHALLENGER = "challenger"
RECORD = "upheld.approval."  # then the time: keys in order are approvals in order
MAX_TEXT_CHARS = 2000  # of a note or a reason


@dataclass(frozen=True)
class Pair:
    """Version numbers of the model and of its thresholds; null where there are none yet."""

    model: int | None = None
    thresholds: int | None = None

    def __str__(self) -> str:
        return "nothing" if self == Pair() else f"model {self.model} with thresholds {self.thresholds}"


@dataclass(frozen=True)
class Approval:
    """One change of what is in production."""

    action: str  # promote or rollback
    after: Pair
    before: Pair
    approver: str
    note: str
    despite_hold: str | None
    at: str  # ISO time, UTC

    @staticmethod
    def read(text: str) -> "Approval":
        """The approval that was written down as JSON."""
        content = json.loads(text)
        return Approval(**content | {side: Pair(**content[side]) for side in ("after", "before")})


def current(registry: Registry) -> Pair:
    """What alias `champion` names now."""
    found = (mlflow_store.by_alias(registry, name, ALIAS) for name in (mlflow_store.MODEL, mlflow_store.THRESHOLDS))
    return Pair(*(version.number if version else None for version in found))


def history(registry: Registry) -> list[Approval]:
    """Every change that was approved, oldest first."""
    return [Approval.read(text) for text in mlflow_store.notes_on_model(registry, RECORD)]


def thresholds_of(registry: Registry, model: Version) -> Version:
    """The thresholds in force for a model.

    Returns:
        those with alias champion where they are pinned to the model, else those approved for it last, else those that
        were registered together with it.

    Raises:
        BadUse: it has none.
    """
    versions = mlflow_store.versions(registry, mlflow_store.THRESHOLDS)
    pinned = [item for item in versions if item.tags.get("upheld.model_version") == model.label]
    in_force = current(registry).thresholds
    approved = sorted((item for item in pinned if "upheld.approved_at" in item.tags), key=lambda item: item.tags["upheld.approved_at"])
    born = [item for item in pinned if item.run_id == model.run_id]
    found = [*(item for item in pinned if item.number == in_force), *reversed(approved), *born]
    if not found:
        raise BadUse(f"{model.label}: no thresholds are registered for it; a threshold never passes to another model's scale")
    return found[0]


def move(registry: Registry, action: str, model: Version, thresholds: Version, approver: str, note: str, hold: str | None) -> Approval:
    """Write the approval down, then let alias `champion` name the two.

    Args:
        registry: open registry.
        action: "promote" or "rollback".
        model, thresholds: what goes into production.
        approver: who says so.
        note: why, in their words.
        hold: reason to promote what the gate holds; None where it does not.

    Returns:
        the approval as it was written down.

    Raises:
        BadUse: approver is blank, or a text is too long.
    """
    if not approver.strip():
        raise BadUse("--approver: expected the name of the person who approves")
    too_long = next((text for text in (approver, note, hold or "") if len(text) > MAX_TEXT_CHARS), None)
    if too_long is not None:
        raise BadUse(f"{too_long[:40]!r}…: expected at most {MAX_TEXT_CHARS} characters, found {len(too_long)}")
    at = datetime.now(UTC).isoformat(timespec="microseconds")
    after = Pair(model.number, thresholds.number)
    approval = Approval(action, after, current(registry), approver.strip(), note, hold, at)
    mlflow_store.note_on_model(registry, RECORD + at.removesuffix("+00:00"), json.dumps(asdict(approval), ensure_ascii=False))
    _point(registry, approval)
    return approval


def settle(registry: Registry) -> None:
    """Finish the last change where a crash left the model moved and its thresholds not."""
    last = next(reversed(history(registry)), None)
    if last and last.after.model != last.before.model and current(registry) == Pair(last.after.model, last.before.thresholds):
        _point(registry, last)


def before(registry: Registry) -> Pair:
    """What was in production before the champion.

    Returns:
        the pair that the last promotion replaced which no rollback has undone.

    Raises:
        BadUse: there was nothing before.
        FailedWork: alias champion was moved by other means, so the record does not tell.
    """
    line = [Pair()]  # what one can go back to, the present last
    for approval in history(registry):
        if approval.action == "rollback":
            line.pop()
        else:
            line += [approval.after] if line[-1] == approval.before else [approval.before, approval.after]
    now = current(registry)
    if line[-1] != now:
        raise FailedWork(f"alias champion names {now}, the last approval {line[-1]}: it was moved by other means; use `upheld promote`")
    if len(line) < 2 or line[-2] == Pair():
        raise BadUse(f"there is nothing to go back to: {now} has no predecessor on record")
    return line[-2]


def _point(registry: Registry, approval: Approval) -> None:
    """The model first: while only it has moved, it is served with the thresholds it was born with."""
    said = {
        "upheld.approved_by": approval.approver,
        "upheld.approved_at": approval.at,
        "upheld.approval_note": approval.note,
        "upheld.replaced": str(approval.before),
        "upheld.despite_hold": approval.despite_hold or "",
    }
    for name, number in ((mlflow_store.MODEL, approval.after.model), (mlflow_store.THRESHOLDS, approval.after.thresholds)):
        version = mlflow_store.resolve(registry, name, str(number))
        mlflow_store.tag_version(registry, version, said)
        mlflow_store.point_alias(registry, ALIAS, version)
