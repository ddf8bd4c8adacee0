"""Reading a delivery: which files it holds, and their rows in batches of bounded size, from any fsspec file system."""

import csv
import posixpath
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa

from upheld.common import files
from upheld.common.errors import BadUse
from upheld.feature_store.contracts import hashing
from upheld.feature_store.contracts import tables as contracts
from upheld.feature_store.ingest.readers import READERS, Bounds, FileRejected, RawBatch


@dataclass(frozen=True)
class Delivery:
    """A folder or object-store prefix.

    Attributes:
        files: the fsspec file system that holds it.
        root: its path there, without a trailing slash.
        local: True if it is a folder of this machine, where symbolic links have to be followed with care.
    """

    files: Any
    root: str
    local: bool

    def path(self, relative: str) -> str:
        """Path of a delivered file on the delivery's file system."""
        return f"{self.root}/{relative}"

    def escapes(self, relative: str) -> bool:
        """True if the file, symbolic links followed, lies outside the delivery."""
        return self.local and not files.within(Path(self.root), Path(self.path(relative)))

    def has(self, relative: str) -> bool:
        """True if the delivery holds this file, and it is an ordinary one: no folder, pipe or device, no link to nowhere."""
        return bool(self.files.isfile(self.path(relative)))


@dataclass(frozen=True)
class DeliveredFile:
    """A file of a delivered table; `path` is relative to the delivery, `size` in bytes. In a name that is no UTF-8, and so of no file
    that is read, the odd bytes are escaped."""

    table: str
    path: str
    size: int


def open_delivery(where: str) -> Delivery:
    """Find a delivery.

    Args:
        where: local path or any fsspec URL.

    Raises:
        BadUse: it is not there, is no folder, or its protocol is unknown.
    """
    try:
        files, root = fsspec.core.url_to_fs(where)
        found = files.isdir(root)
    except Exception as error:  # the file systems of fsspec share no type
        raise BadUse(f"{where}: cannot be opened ({error}); expected a folder or an fsspec URL") from error
    if not found:
        raise BadUse(f"{where}: no such folder; expected a delivery with {', '.join(f'{name}/' for name in contracts.DELIVERED)}")
    return Delivery(files, root.rstrip("/"), "file" in (files.protocol if isinstance(files.protocol, tuple) else (files.protocol,)))


def table_files(delivery: Delivery) -> list[DeliveredFile]:
    """Every file of every table, in order of table and name. Names that begin with `.` or `_` are left alone.

    Raises:
        BadUse: the delivery has no folder of any table.
    """
    folders = [table for table in contracts.DELIVERED if delivery.files.isdir(delivery.path(table))]
    if not folders:
        expected = ", ".join(f"{name}/" for name in contracts.DELIVERED)
        raise BadUse(f"{delivery.root}: no folder of any table; expected at least one of {expected}")
    files = []
    for table in folders:
        found = delivery.files.find(delivery.path(table), detail=True)
        for path, entry in sorted(found.items()):
            relative = posixpath.relpath(path, delivery.root).encode("utf-8", "backslashreplace").decode()
            if not posixpath.basename(relative).startswith((".", "_")):
                files.append(DeliveredFile(table, relative, int(entry.get("size") or 0)))
    return files


def delivery_digest(delivery: Delivery, files: list[DeliveredFile]) -> str:
    """Digest of names and bytes of the delivered tables; media are digested one by one when they are checked."""
    digests: list[tuple[str, str | None]] = []
    for file in files:
        digest = None
        if not delivery.escapes(file.path) and delivery.has(file.path):
            with suppress(OSError), delivery.files.open(delivery.path(file.path), "rb") as stream:
                digest = hashing.of_stream(stream)
        digests.append((file.path, digest))
    return hashing.of_json(digests)


def read_batches(delivery: Delivery, file: DeliveredFile, bounds: Bounds) -> Iterator[RawBatch]:
    """Rows of one file.

    Raises:
        FileRejected: `file_unreadable`, `file_too_large`, `unknown_format`, `path_unsafe` where it is a link out of the delivery,
            `not_a_file` where it is a pipe, a device or the like, or has a name that is no UTF-8.
    """
    reader = READERS.get(posixpath.splitext(file.path)[1].lower())
    if reader is None:
        raise FileRejected("unknown_format", f"expected {', '.join(READERS)}")
    if delivery.escapes(file.path):
        raise FileRejected("path_unsafe", "a symbolic link that leaves the delivery or leads to itself")
    if not delivery.has(file.path):
        raise FileRejected("not_a_file", "expected an ordinary file with a name in UTF-8")
    try:
        with delivery.files.open(delivery.path(file.path), "rb") as stream:
            yield from reader(stream, bounds)
    except MemoryError as error:  # Arrow's own is one, too
        raise FileRejected("file_too_large", f"needs more memory than there is: {error}") from error
    except (OSError, pa.ArrowException, csv.Error) as error:
        raise FileRejected("file_unreadable", " ".join(str(error).split())[:300]) from error
