"""One writing process at a time."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from upheld.common.errors import FailedWork


@contextmanager
def only(lock: Path, what: str) -> Iterator[None]:
    """Hold a lock file; the system lets go of it if the process dies.

    Args:
        lock: the file; its folder exists.
        what: what is written to, for the error.

    Raises:
        FailedWork: another process holds it.
    """
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FailedWork(f"{lock.parent}: another process is writing to this {what}; wait for it and run again") from error
        yield
