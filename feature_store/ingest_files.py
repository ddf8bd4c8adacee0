"""Reading a delivery: which files it holds, and their rows in batches of bounded size, from any fsspec file system."""

import csv
import io
import json
import posixpath
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from feature_store import contracts, digest
from feature_store.errors import BadUse

SYNTHETIC_MARK = "SYNTHETIC.json"


class FileRejected(Exception):
    """A delivered file cannot be used as a whole; `reason` is a code for the summary, the message is for people."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


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
        return self.local and not Path(self.path(relative)).resolve().is_relative_to(Path(self.root).resolve())

    def has(self, relative: str) -> bool:
        """True if the delivery holds this file."""
        return bool(self.files.isfile(self.path(relative)))


@dataclass(frozen=True)
class DeliveredFile:
    """A file of a delivered table; `path` is relative to the delivery, `size` in bytes."""

    table: str
    path: str
    size: int


@dataclass(frozen=True)
class BrokenRow:
    """A row that could not be split into columns."""

    row_number: int
    reason: str
    detail: str
    raw: str


@dataclass(frozen=True)
class RawBatch:
    """Rows as delivered.

    Attributes:
        columns: column -> Arrow array (Parquet) or list of Python values (JSONL, CSV), each of length N.
        row_numbers: position of each of the N rows in its file, from 0.
        raw: index in [0, N) -> the row as text.
        header: True if the file says which columns it has (Parquet, CSV), False if each row does (JSONL).
        broken: rows that are not among the N.
    """

    columns: dict[str, Any]
    row_numbers: list[int]
    raw: Callable[[int], str]
    header: bool
    broken: list[BrokenRow] = field(default_factory=list)


@dataclass(frozen=True)
class Bounds:
    """How much is held in memory at once: rows and bytes of a batch, bytes of one row of JSONL or CSV."""

    batch_rows: int
    batch_bytes: int
    row_bytes: int


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
    except (ValueError, ImportError, OSError) as error:
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
            relative = posixpath.relpath(path, delivery.root)
            if not posixpath.basename(relative).startswith((".", "_")):
                files.append(DeliveredFile(table, relative, int(entry.get("size") or 0)))
    return files


def delivery_digest(delivery: Delivery, files: list[DeliveredFile]) -> str:
    """Digest of names and bytes of the delivered tables; media are digested one by one when they are checked."""
    return digest.of_json([[file.path, _file_digest(delivery, file)] for file in files])


def _file_digest(delivery: Delivery, file: DeliveredFile) -> str | None:
    if delivery.escapes(file.path):
        return None
    try:
        with delivery.files.open(delivery.path(file.path), "rb") as stream:
            return digest.of_stream(stream)
    except OSError:
        return None


def read_batches(delivery: Delivery, file: DeliveredFile, bounds: Bounds) -> Iterator[RawBatch]:
    """Rows of one file.

    Raises:
        FileRejected: `file_unreadable`, `unknown_format`, or `path_unsafe` where it is a link out of the delivery.
    """
    readers = {".parquet": _parquet, ".jsonl": _jsonl, ".csv": _csv}
    reader = readers.get(posixpath.splitext(file.path)[1].lower())
    if reader is None:
        raise FileRejected("unknown_format", f"expected {', '.join(readers)}")
    if delivery.escapes(file.path):
        raise FileRejected("path_unsafe", "a symbolic link that leaves the delivery")
    try:
        with delivery.files.open(delivery.path(file.path), "rb") as stream:
            yield from reader(stream, bounds)
    except (OSError, pa.ArrowException, csv.Error) as error:
        raise FileRejected("file_unreadable", " ".join(str(error).split())[:300]) from error


def _parquet(stream: Any, bounds: Bounds) -> Iterator[RawBatch]:
    file = pq.ParquetFile(stream)
    groups = [file.metadata.row_group(index) for index in range(file.num_row_groups)]
    row_bytes = max((group.total_byte_size / max(group.num_rows, 1) for group in groups), default=0)
    num_rows = max(1, min(bounds.batch_rows, int(bounds.batch_bytes / max(row_bytes, 1))))
    names = file.schema_arrow.names
    if len(set(names)) != len(names):
        raise FileRejected("duplicate_column", f"each column once, found {', '.join(names)}")
    start = 0
    if not groups:
        yield _arrow_batch(pa.RecordBatch.from_pylist([], schema=file.schema_arrow), 0)
    for batch in file.iter_batches(num_rows):
        yield _arrow_batch(batch, start)
        start += batch.num_rows


def _arrow_batch(batch: pa.RecordBatch, start: int) -> RawBatch:
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))

    def raw(index: int) -> str:
        return as_json({name: _value(column[index]) for name, column in columns.items()})

    return RawBatch(columns, list(range(start, start + batch.num_rows)), raw, header=True)


def _value(scalar: pa.Scalar) -> Any:
    try:
        return scalar.as_py()
    except (ValueError, OverflowError):  # bytes that are no UTF-8, a date that Python does not have
        kind = scalar.type
        return scalar.cast(pa.binary()).as_py() if pa.types.is_string(kind) or pa.types.is_large_string(kind) else str(scalar.value)


def as_json(row: dict[str, Any]) -> str:
    """One row as one line of JSON; what JSON has no form for is written as text."""
    return json.dumps(row, default=_plain, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()


def _plain(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return str(value.isoformat()) if hasattr(value, "isoformat") else str(value)


class _Gathering:
    """Rows collected until a batch is full; columns come from the keys that rows have."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._rows: list[dict[str, Any]] = []
        self._numbers: list[int] = []
        self._raw: list[str | None] = []
        self._broken: list[BrokenRow] = []
        self._bytes = 0

    def add(self, number: int, row: dict[str, Any], raw: str | None, num_bytes: int) -> None:
        self._rows.append(row)
        self._numbers.append(number)
        self._raw.append(raw)
        self._bytes += num_bytes

    def add_broken(self, number: int, reason: str, detail: str, raw: str) -> None:
        self._broken.append(BrokenRow(number, reason, detail, raw))
        self._bytes += len(raw)

    @property
    def full(self) -> bool:
        return len(self._rows) + len(self._broken) >= self._bounds.batch_rows or self._bytes >= self._bounds.batch_bytes

    def take(self, names: list[str] | None) -> RawBatch:
        header = names is not None
        names = names if names is not None else list(dict.fromkeys(name for row in self._rows for name in row))
        columns: dict[str, Any] = {name: [row.get(name) for row in self._rows] for name in names}
        rows, kept = self._rows, self._raw

        def raw(index: int) -> str:
            text = kept[index]
            return as_json(rows[index]) if text is None else text

        return RawBatch(columns, self._numbers, raw, header, self._broken)


def _jsonl(stream: Any, bounds: Bounds) -> Iterator[RawBatch]:
    gathering = _Gathering(bounds)
    for number, line in enumerate(_lines(stream, bounds.row_bytes)):
        _take_json_line(gathering, number, line, bounds)
        if gathering.full:
            yield gathering.take(None)
            gathering = _Gathering(bounds)
    yield gathering.take(None)


def _take_json_line(gathering: _Gathering, number: int, line: bytes, bounds: Bounds) -> None:
    raw = line.decode("utf-8", "backslashreplace").rstrip("\r\n")
    if len(line) > bounds.row_bytes:
        return gathering.add_broken(number, "row_too_long", f"more than {bounds.row_bytes} bytes", raw[:1000])
    try:
        row = json.loads(line.decode())
    except UnicodeDecodeError as error:
        return gathering.add_broken(number, "invalid_unicode", f"byte {error.start} is no UTF-8", raw)
    except (ValueError, RecursionError) as error:
        return gathering.add_broken(number, "line_unparsable", f"no JSON: {error}"[:200], raw)
    if not isinstance(row, dict):
        return gathering.add_broken(number, "line_unparsable", f"expected a JSON object, found {type(row).__name__}", raw)
    return gathering.add(number, row, raw, len(line))


def _lines(stream: Any, limit: int) -> Iterator[bytes]:
    """Lines that are not blank; one longer than `limit` is cut to `limit` + 1 bytes and its rest skipped."""
    while line := stream.readline(limit + 1):
        rest = line
        while len(rest) == limit + 1 and not rest.endswith(b"\n"):
            rest = stream.readline(limit + 1)
        if line.strip():
            yield line


def _csv(stream: Any, bounds: Bounds) -> Iterator[RawBatch]:
    csv.field_size_limit(bounds.row_bytes)
    with io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        reader = csv.reader(text, strict=True)
        names = next(reader, [])
        if not names:
            raise FileRejected("file_unreadable", "an empty CSV file; expected a header line")
        if len(set(names)) != len(names):
            raise FileRejected("duplicate_column", f"each column once, found {', '.join(names)}")
        gathering = _Gathering(bounds)
        for number, cells in enumerate(row for row in reader if row):
            _take_csv_row(gathering, number, names, cells)
            if gathering.full:
                yield gathering.take(names)
                gathering = _Gathering(bounds)
        yield gathering.take(names)


def _take_csv_row(gathering: _Gathering, number: int, names: list[str], cells: list[str]) -> None:
    if len(cells) != len(names):
        detail = f"expected {len(names)} fields, found {len(cells)}"
        return gathering.add_broken(number, "line_unparsable", detail, as_json({"fields": cells}))
    row = {name: cell or None for name, cell in zip(names, cells, strict=True)}
    return gathering.add(number, row, None, sum(map(len, cells)))
