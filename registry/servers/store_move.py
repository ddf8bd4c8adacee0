"""Make a store that was copied or moved a store of its own: whatever in it names the old folder names the new one.

usage: upheld store move --store store
"""

import fcntl
import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from upheld.common import files
from upheld.common.command import STORE_FOLDER, Output, StoreFolder, command
from upheld.common.errors import BadUse, FailedWork
from upheld.registry.servers import airflow_server
from upheld.registry.tracking import place as store_place

LOCKS = ("airflow/up.lock", "ledger/.lock", ".features.lock")  # of whoever runs the servers, ingests, or extracts features
# Text that tools read again. What stays: logs, and what is known by its digest (data of runs, files of registered models).
FILES = ("airflow/airflow.cfg", "runs/*/.dvc/config.local", "runs/*/*.json", "runs/*/results/*.json")
DATABASES = ("airflow/airflow.db", "mlflow/mlflow.db")  # the registry last: as long as it names the old folder, the store is refused


def run(store: Path) -> dict[str, Any]:
    """Rewrite the store's own paths; a second call finds nothing to do, and one that was cut off goes on.

    Returns:
        {"store", "moved_from", "rewritten": {file: values}}; moved_from is None where the store lies where it says.

    Raises:
        BadUse: there is no such folder.
        FailedWork: something runs on the store; nothing has changed.
    """
    if not store.is_dir():
        raise BadUse(f"--store {store}: no such folder")
    old, new = store_place.origin(store), store.resolve()
    rewritten: dict[str, int] = {}
    if old is not None:
        with _alone(store, old):
            names = Names(str(old), str(new))
            for path in sorted(path for pattern in FILES for path in store.glob(pattern) if path.is_file()):
                before = path.read_text(encoding="utf-8")
                after = names.moved(before)
                if after != before:
                    mode = path.stat().st_mode & 0o777
                    files.write_text(path, after)
                    path.chmod(mode)
                lines = zip(before.splitlines(), after.splitlines(), strict=True)
                rewritten[str(path.relative_to(store))] = sum(one != other for one, other in lines)
            for name in DATABASES:
                if (store / name).is_file():
                    rewritten[name] = _rewrite_database(store / name, names)
    return {
        "store": str(new),
        "moved_from": None if old is None else str(old),
        "rewritten": {name: count for name, count in rewritten.items() if count},
    }


@contextmanager
def _alone(store: Path, old: Path) -> Iterator[None]:
    """Keep servers and ingests off the store.

    Raises:
        FailedWork: something runs on it, or began there before the store was moved away under its feet.
    """
    with ExitStack() as stack:
        for name in LOCKS:
            if (store / name).parent.is_dir():
                lock = stack.enter_context((store / name).open("a"))
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError as error:
                    raise FailedWork(f"{store}: `upheld up` or an ingest runs on it; stop it and run this again") from error
        homes = {airflow_server.home(place) for place in (store, store.resolve(), *([] if old.exists() else [old]))}
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has ended, or is not ours
                variables = (entry / "environ").read_bytes().split(b"\0")
                if any(f"AIRFLOW_HOME={home}".encode() in variables for home in homes):
                    raise FailedWork(f"{store}: process {entry.name} runs on it; wait for it or stop it, and run this again")
        yield


class Names:
    """A folder's old and new name, absolute: as a path, as a URI writes it and as JSON does.

    Attributes:
        forms: old form -> new form.
    """

    def __init__(self, old: str, new: str) -> None:
        writers: tuple[Callable[[str], str], ...] = (str, quote, lambda path: json.dumps(path)[1:-1])
        self.forms = {write(old): write(new) for write in writers}
        done = f"(?!{re.escape(new.removeprefix(old))})" if new.startswith(f"{old}/") else ""  # where an earlier call was cut off
        names = "|".join(map(re.escape, self.forms))
        self._found = re.compile(rf"(?:(?<=file://)|(?<=sqlite:///)|(?<![\w./%-]))({names}){done}(?=[/\"'\\\s]|$)")

    def moved(self, text: str) -> str:
        """The text with the new name wherever the old one, or a path below it, stood by itself or as the path of a URI."""
        return self._found.sub(lambda found: self.forms[found[1]], text)


def _rewrite_database(path: Path, names: Names) -> int:
    """All of its text in one transaction. Returns how many values changed."""
    count = 0
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.create_function("moved", 1, names.moved, deterministic=True)
        connection.execute("BEGIN IMMEDIATE")
        for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for column in [row[1] for row in connection.execute(f'PRAGMA table_info("{table}")')]:
                holds = " OR ".join([f'instr("{column}", ?)'] * len(names.forms))
                where = f'typeof("{column}") = \'text\' AND ({holds}) AND moved("{column}") <> "{column}"'
                change = f'UPDATE "{table}" SET "{column}" = moved("{column}") WHERE {where}'  # noqa: S608
                count += connection.execute(change, tuple(names.forms)).rowcount
        connection.execute("COMMIT")
    return count


@command("store move")
def main(store: StoreFolder = STORE_FOLDER) -> Output:
    """Make a copied or moved store a store of its own."""
    done = run(store)
    lines = [f"{done['store']}: was {done['moved_from']}; rewritten:", *(f"  {name}: {count}" for name, count in done["rewritten"].items())]
    return Output(done, "\n".join(lines) if done["moved_from"] else f"{done['store']}: lies where its registry says; nothing to do")
