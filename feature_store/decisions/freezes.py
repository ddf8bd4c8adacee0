"""In which categories a person has stopped automatic removal: a log of who did it, when and why, in the store."""

import fcntl
import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from upheld.common import files
from upheld.common.errors import BadUse
from upheld.feature_store.contracts.workspace import Event


class Log(BaseModel):
    """All events in the order in which they happened; nothing is ever taken out."""

    model_config = ConfigDict(extra="forbid")

    events: list[Event] = []


def path_of(store: Path) -> Path:
    """The log of a store."""
    return store / "freezes.json"


def read(store: Path) -> list[Event]:
    """Every event, oldest first; none where nobody ever froze anything.

    Raises:
        BadUse: the file is no such log. It is never taken for an empty one: what a person stopped must stay stopped.
    """
    path = path_of(store)
    try:
        return Log.model_validate_json(path.read_text(encoding="utf-8")).events
    except FileNotFoundError:
        return []
    except (ValidationError, UnicodeDecodeError) as error:
        raise BadUse(f"{path}: is not the log of frozen categories ({' '.join(str(error).split())[:160]}); restore it by hand") from error


def frozen(store: Path) -> dict[str, Event]:
    """Category -> the freeze that stands; what was lifted is left out. Raises as `read`."""
    last = {event.category: event for event in read(store)}
    return {category: event for category, event in sorted(last.items()) if event.event == "freeze"}


def append(store: Path, event: Event) -> bool:
    """Add an event, unless the category is in that state already.

    Returns:
        whether anything was written. The log is read and written under a lock, and replaced as a whole.

    Raises:
        BadUse: as `read`.
    """
    store.mkdir(parents=True, exist_ok=True)
    with (store / ".freezes.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (event.category in frozen(store)) == (event.event == "freeze"):
            return False
        events = [*read(store), event]
        files.write_json(path_of(store), {"events": [json.loads(item.model_dump_json()) for item in events]})
        return True
