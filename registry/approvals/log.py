"""What people answered when they were asked about production: a log in the store, one file an answer, that nothing ever rewrites.

It lies outside MLflow, because whoever reaches MLflow can move an alias and write a tag. What MLflow shows is never believed.

usage: upheld approvals [--json]
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError
from rich.table import Table
from rich.text import Text

from upheld.common import files
from upheld.common.command import STORE_FOLDER, Output, StoreFolder, command
from upheld.common.errors import BadUse
from upheld.common.terminal import console, visible

Action = Literal["promote", "rollback", "reject", "timeout", "refused"]
CHANGES = ("promote", "rollback")
ANSWERS: dict[Action, str] = {
    "promote": "approved",
    "rollback": "rolled back",
    "reject": "rejected",
    "timeout": "no answer in time",
    "refused": "approved, but not carried out",
}


@dataclass(frozen=True)
class Pair:
    """Version numbers of the model and of its thresholds; null where there are none yet."""

    model: int | None = None
    thresholds: int | None = None

    def __str__(self) -> str:
        return "nothing" if self == Pair() else f"model {self.model} with thresholds {self.thresholds}"


class Approval(BaseModel):
    """One answer. `refused` is a yes that could not be carried out.

    `before` is what alias champion named, `after` what was asked for. `gate` is what the gate said of it, `despite_hold` the reason to
    approve what it holds. The digests are those of the model's bundle and of thresholds.json; of a change they were checked.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    action: Action
    after: Pair
    before: Pair
    approver: str | None  # nobody, where the question timed out
    note: str
    despite_hold: str | None
    gate: Literal["promote", "hold"]
    bundle_sha256: str | None
    thresholds_sha256: str | None
    at: AwareDatetime  # UTC


def folder_of(store: Path) -> Path:
    """The log of a store."""
    return store / "approvals"


def read(store: Path) -> list[Approval]:
    """Every answer, oldest first; none where nobody was ever asked.

    Raises:
        BadUse: a file is no such record. It is never passed over: what it says would be forgotten.
    """
    found = []
    for path in sorted(folder_of(store).glob("*.json")):
        try:
            found.append(Approval.model_validate_json(path.read_bytes()))
        except ValidationError as error:
            raise BadUse(f"{path}: is not a record of an approval ({' '.join(str(error).split())[:160]}); restore it by hand") from error
    return found


def changes(store: Path) -> list[Approval]:
    """The answers that changed what is in production, oldest first. Raises as `read`."""
    return [item for item in read(store) if item.action in CHANGES]


def append(store: Path, approval: Approval) -> None:
    """Add an answer under the next free number, so that their order does not depend on a clock; it is on disk on return."""
    folder = folder_of(store)
    number = max((int(path.stem) for path in folder.glob("*.json")), default=0)
    while True:
        number += 1
        try:
            files.create_json(folder / f"{number:06d}.json", approval.model_dump(mode="json"))
        except FileExistsError:  # another process was faster
            continue
        return


def show(answers: Sequence[Approval]) -> None:
    """Print the table of answers, in the order given; long texts wrap, so that 80 columns hold it."""
    table = Table("when (UTC)", "answer", "asked for", "in place of", "by", "why", title="answers about production, newest first")
    for item in answers:
        held = ["held by the gate"] if item.gate == "hold" else []
        why = "; ".join([*held, *(text for text in (item.despite_hold, item.note) if text)])
        cells = (f"{item.at:%Y-%m-%d %H:%M}", ANSWERS[item.action], str(item.after), str(item.before), item.approver or "nobody", why)
        table.add_row(*(Text(visible(cell), overflow="fold") for cell in cells))
    console(stderr=False).print(table)


@command("approvals")
def main(store: StoreFolder = STORE_FOLDER) -> Output:
    """List who approved, rejected, rolled back, or let a question time out."""
    found = read(store)[::-1]
    none = f"no answer yet in {folder_of(store)}; `upheld promote` and the DAG promote write them"
    return Output([item.model_dump(mode="json") for item in found], (lambda: show(found)) if found else none)
