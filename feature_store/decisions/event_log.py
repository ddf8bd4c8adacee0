"""What people decided about something, such as a category or a reviewer: a log of who did it, when and why, in the store."""

import fcntl
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from upheld.common import files
from upheld.common.errors import BadUse
from upheld.feature_store.contracts.workspace import Event, Hold

Kind = TypeVar("Kind", Event, Hold)


@dataclass(frozen=True)
class EventLog(Generic[Kind]):
    """All events of a kind in the order in which they happened; nothing is ever taken out.

    Attributes:
        name: of the file in the store, without its ending.
        what: what it is a log of, in words.
        kind: class of its events.
        subject: field of an event that says what it is about.
        begins: the event that stands until its opposite comes.
    """

    name: str
    what: str
    kind: type[Kind]
    subject: str
    begins: str

    def path(self, store: Path) -> Path:
        """The log of a store."""
        return store / f"{self.name}.json"

    def read(self, store: Path) -> list[Kind]:
        """Every event, oldest first; none where there never was one.

        Raises:
            BadUse: the file is no such log. It is never taken for an empty one: what a person decided must stand.
        """
        path = self.path(store)
        try:
            return _Log[self.kind].model_validate_json(path.read_text(encoding="utf-8")).events  # type: ignore[name-defined]
        except FileNotFoundError:
            return []
        except (ValidationError, UnicodeDecodeError) as error:
            raise BadUse(f"{path}: is not the log of {self.what} ({' '.join(str(error).split())[:160]}); restore it by hand") from error

    def standing(self, store: Path) -> dict[str, Kind]:
        """Subject -> the event that stands; what was ended is left out. Raises as `read`."""
        last = {str(getattr(event, self.subject)): event for event in self.read(store)}
        return {subject: event for subject, event in sorted(last.items()) if event.event == self.begins}

    def append(self, store: Path, event: Kind) -> bool:
        """Add an event, unless its subject is in that state already.

        Returns:
            whether anything was written. The log is read and written under a lock, and replaced as a whole.

        Raises:
            BadUse: as `read`.
        """
        store.mkdir(parents=True, exist_ok=True)
        with (store / f".{self.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if (getattr(event, self.subject) in self.standing(store)) == (event.event == self.begins):
                return False
            events = self.read(store)
            events.append(event)
            files.write_json(self.path(store), {"events": [json.loads(item.model_dump_json()) for item in events]})
            return True


class _Log(BaseModel, Generic[Kind]):
    model_config = ConfigDict(extra="forbid")

    events: list[Kind] = []
