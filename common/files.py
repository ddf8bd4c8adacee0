"""Files: written so that readers see them whole or not at all, locked for one writer, read within bounds where others filled the folder."""

import fcntl
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from upheld.common.errors import FailedWork


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path beside `path`, whose folder is made if missing; what the caller writes there takes the place of `path`.

    If the caller fails, it is removed and `path` stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        with partial.open("rb+") as written:
            os.fsync(written.fileno())
        partial.chmod(0o644)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path`; once the caller has filled it, it takes the place of all that `path` held.

    If the caller fails, it is removed and `path` stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial"))
    try:
        yield partial
        partial.chmod(0o755)
        if path.exists():
            shutil.rmtree(path)
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 with its line ends as they are, whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="")


def write_parquet(path: Path, frame: Any) -> None:
    """Write a pandas data frame without its index, whole or not at all."""
    with replacing(path) as partial:
        frame.to_parquet(partial, index=False)


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON with sorted keys, whole or not at all.

    Raises:
        ValueError: `content` holds NaN or infinity; JSON has neither, write null and a reason.
    """
    write_text(path, _json(content))


def create_json(path: Path, content: Any) -> None:
    """Write `content` as `write_json` does, but never over a file that is there: for records that nobody may change.

    Raises:
        FileExistsError: there is such a file; it is left as it is.
        ValueError: as `write_json`.
    """
    create_text(path, _json(content))


def create_text(path: Path, text: str, mode: int = 0o644) -> None:
    """Write `text` as UTF-8, whole or not at all, and never over a file that is there.

    Args:
        path: file to make; its folder is made if missing.
        text: its content.
        mode: its permissions; until it has its name, its owner alone may read it.

    Raises:
        FileExistsError: there is such a file; it is left as it is.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(mode)
        os.link(name, path)  # unlike a rename, it fails where the name is taken
    finally:
        Path(name).unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # or a power cut might forget the name
    finally:
        os.close(folder)


def _json(content: Any) -> str:
    return json.dumps(content, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"


@contextmanager
def only_writer(lock: Path, what: str) -> Iterator[None]:
    """Hold a lock file, so that one process writes at a time; the system lets go of it if the process dies.

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
