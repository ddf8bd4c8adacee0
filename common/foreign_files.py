"""Files in folders that others filled: only ordinary ones are read, within bounds, and none that lies outside."""

import os
import stat
from pathlib import Path


def ordinary_bytes(path: Path, max_bytes: int) -> bytes:
    """Read a file. A pipe is never waited for, a device never read.

    Raises:
        ValueError: larger than `max_bytes`, or no name that a file can have.
        OSError: missing, unreadable or no ordinary file.
    """
    # O_NONBLOCK: to open a pipe without a writer would wait for one
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(0, "no ordinary file", str(path))
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ValueError(f"more than {max_bytes} bytes")
    return content


def is_file(path: Path) -> bool:
    """True for an ordinary file, links followed; False for anything else, names that no file can have included."""
    try:
        return path.is_file()
    except OSError:  # a name that is too long
        return False


def within(folder: Path, path: Path) -> bool:
    """True if `path`, links followed, lies in `folder` and its name can be written down as UTF-8."""
    try:
        str(path).encode()
        path.exists()  # which fails where no file can be
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):  # too long; with a null character; a link to itself
        return False
