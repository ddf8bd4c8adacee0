"""Writes that readers see whole or not at all: temporary name, fsync, rename."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary file path beside `path`; on success it takes the place of `path`.

    Args:
        path: file to write; its folder is made if missing.

    Yields:
        a path in the same folder, to be written by the caller; removed if the caller fails.
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
    """Yield a temporary folder beside `path`; on success it takes the place of `path`.

    Args:
        path: folder to write; an existing one is replaced as a whole.

    Yields:
        an empty folder, to be filled by the caller; removed if the caller fails.
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
