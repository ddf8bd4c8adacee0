"""Parquet, JSONL and CSV as raw batches, however broken; what is held in memory is bounded by rows and bytes."""

import csv
import io
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from upheld.common.params.data import Ingest


class FileRejected(Exception):
    """A delivered file cannot be used as a whole; `reason` is a code for the summary, the message is for people."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


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


def as_json(row: dict[str, Any]) -> str:
    """One row as one line of JSON; what JSON has no form for is written as text."""
    return json.dumps(row, default=_plain, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()


def _plain(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return str(value.isoformat()) if hasattr(value, "isoformat") else str(value)


def _parquet(stream: Any, bounds: Ingest) -> Iterator[RawBatch]:
    """Texts stay references into a dictionary, as most files hold them, until it is known how long the rows are that they make: a file
    of some kilobytes may repeat one text a million times."""
    file = pq.ParquetFile(stream)
    names = file.schema_arrow.names
    if len(set(names)) != len(names):
        raise FileRejected("duplicate_column", f"each column once, found {', '.join(names)}")
    groups = [file.metadata.row_group(index) for index in range(file.num_row_groups)]
    row_bytes = max((group.total_byte_size / max(group.num_rows, 1) for group in groups), default=0)
    columns = [file.schema.column(number) for number in range(len(file.schema))]
    fixed_bytes = sum(max(column.length, 8) for column in columns)  # `length` is that of fixed-size bytes, else 0
    lists = [number for number, column in enumerate(columns) if column.max_repetition_level]
    num_items = max((group.column(number).num_values for group in groups for number in lists), default=0)
    if fixed_bytes > bounds.batch_bytes or num_items > bounds.batch_bytes // 8:
        raise FileRejected("file_too_large", f"rows or lists of more than {bounds.batch_bytes} bytes; write them in smaller row groups")
    row_bytes = max(row_bytes, fixed_bytes)
    num_rows = max(1, min(bounds.batch_rows, int(bounds.batch_bytes / max(row_bytes, 1))))
    if not groups:
        yield _arrow_batch(pa.RecordBatch.from_pylist([], schema=file.schema_arrow), np.array([], np.int64), [])
    coded = pq.ParquetFile(stream, read_dictionary=[column.path for column in columns if column.physical_type == "BYTE_ARRAY"])
    start = total = 0
    for batch in coded.iter_batches(num_rows):
        sizes = sum((_sizes(column) for column in batch.columns), np.zeros(batch.num_rows, np.int64))
        total += int(sizes.sum())
        if total > bounds.max_file_bytes:
            raise FileRejected("file_too_large", f"texts of more than {bounds.max_file_bytes} bytes when decoded; deliver it in parts")
        yield from _portions(batch, sizes, start, file.schema_arrow, bounds)
        start += batch.num_rows


def _portions(batch: pa.RecordBatch, sizes: np.ndarray, start: int, schema: pa.Schema, bounds: Ingest) -> Iterator[RawBatch]:
    """A batch whose texts are references, in parts that can be decoded; rows that are too long are not."""
    long = np.flatnonzero(sizes > bounds.max_row_bytes)
    broken = [BrokenRow(start + row, "row_too_long", f"more than {bounds.max_row_bytes} bytes", "") for row in long.tolist()]
    fitting = np.flatnonzero(sizes <= bounds.max_row_bytes)
    part = np.cumsum(sizes[fitting]) // bounds.batch_bytes
    for number, rows in enumerate(np.split(fitting, np.flatnonzero(np.diff(part)) + 1)):
        chosen = batch if len(rows) == batch.num_rows else batch.take(pa.array(rows))
        yield _arrow_batch(chosen.cast(schema), start + rows, [] if number else broken)


def _sizes(column: pa.Array) -> np.ndarray:
    """int64 (N,): bytes of the texts that each value would have if it were decoded."""
    if isinstance(column, pa.DictionaryArray) and not pa.types.is_primitive(column.type.value_type):
        lengths = np.append(_sizes(column.dictionary), 0)
        return np.asarray(lengths[column.indices.fill_null(len(lengths) - 1).to_numpy(zero_copy_only=False)])
    if isinstance(column, pa.StructArray):
        return np.asarray(sum((_sizes(field) for field in column.flatten()), np.zeros(len(column), np.int64)))
    if isinstance(column, pa.MapArray):
        column = column.cast(pa.list_(pa.struct([("key", column.type.key_type), ("value", column.type.item_type)])))
    if isinstance(column, pa.ListArray | pa.LargeListArray | pa.FixedSizeListArray):
        owners = pc.list_parent_indices(column).to_numpy(zero_copy_only=False)
        return np.bincount(owners, _sizes(pc.list_flatten(column)) + 8, len(column)).astype(np.int64)
    if any(is_text(column.type) for is_text in _TEXTS):
        return np.asarray(pc.binary_length(column).fill_null(0).to_numpy(zero_copy_only=False), np.int64)
    return np.zeros(len(column), np.int64)


_TEXTS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)


def _arrow_batch(batch: pa.RecordBatch, numbers: np.ndarray, broken: list[BrokenRow]) -> RawBatch:
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))

    def raw(index: int) -> str:
        return as_json({name: _value(column[index]) for name, column in columns.items()})

    return RawBatch(columns, numbers.tolist(), raw, header=True, broken=broken)


def _value(scalar: pa.Scalar) -> Any:
    try:
        return scalar.as_py()
    except (ValueError, OverflowError):  # bytes that are no UTF-8, a date that Python does not have
        kind = scalar.type
        return scalar.cast(pa.binary()).as_py() if pa.types.is_string(kind) or pa.types.is_large_string(kind) else str(scalar.value)


class _Gathering:
    """Rows collected until a batch is full; columns come from the keys that rows have."""

    def __init__(self, bounds: Ingest) -> None:
        self._bounds = bounds
        self._rows: list[dict[str, Any]] = []
        self._numbers: list[int] = []
        self._raw: list[str | None] = []
        self._broken: list[BrokenRow] = []
        self._bytes = 0

    def add(self, number: int, row: dict[str, Any], raw: str | None, num_bytes: int) -> None:
        """Take a row; without `raw` its text is made from its values where it is asked for."""
        self._rows.append(row)
        self._numbers.append(number)
        self._raw.append(raw)
        self._bytes += num_bytes

    def add_broken(self, number: int, reason: str, detail: str, raw: str) -> None:
        """Take a row that has no columns."""
        self._broken.append(BrokenRow(number, reason, detail, raw))
        self._bytes += len(raw)

    @property
    def full(self) -> bool:
        """True once a batch has as many rows or bytes as it may."""
        return len(self._rows) + len(self._broken) >= self._bounds.batch_rows or self._bytes >= self._bounds.batch_bytes

    def take(self, names: list[str] | None) -> RawBatch:
        """The batch; `names` are the file's columns, None takes them from the rows."""
        header = names is not None
        names = names if names is not None else list(dict.fromkeys(name for row in self._rows for name in row))
        columns: dict[str, Any] = {name: [row.get(name) for row in self._rows] for name in names}
        rows, kept = self._rows, self._raw

        def raw(index: int) -> str:
            text = kept[index]
            return as_json(rows[index]) if text is None else text

        return RawBatch(columns, self._numbers, raw, header, self._broken)


def _jsonl(stream: Any, bounds: Ingest) -> Iterator[RawBatch]:
    gathering = _Gathering(bounds)
    for number, line in enumerate(_lines(stream, bounds.max_row_bytes)):
        raw = line.decode("utf-8", "backslashreplace").rstrip("\r\n")
        if len(line) > bounds.max_row_bytes:
            gathering.add_broken(number, "row_too_long", f"more than {bounds.max_row_bytes} bytes", raw[:1000])
        else:
            try:
                row = json.loads(line.decode())
            except UnicodeDecodeError as error:
                gathering.add_broken(number, "invalid_unicode", f"byte {error.start} is no UTF-8", raw)
            except (ValueError, RecursionError) as error:
                gathering.add_broken(number, "line_unparsable", f"no JSON: {error}"[:200], raw)
            else:
                if isinstance(row, dict):
                    gathering.add(number, row, raw, len(line))
                else:
                    gathering.add_broken(number, "line_unparsable", f"expected a JSON object, found {type(row).__name__}", raw)
        if gathering.full:
            yield gathering.take(None)
            gathering = _Gathering(bounds)
    yield gathering.take(None)


def _lines(stream: Any, limit: int) -> Iterator[bytes]:
    """Lines that are not blank; one longer than `limit` is cut to `limit` + 1 bytes and its rest skipped."""
    while line := stream.readline(limit + 1):
        rest = line
        while len(rest) == limit + 1 and not rest.endswith(b"\n"):
            rest = stream.readline(limit + 1)
        if line.strip():
            yield line


class _CsvLines:
    """Lines of a CSV file for `csv.reader`; one that begins a row and is longer than `limit` is skipped and counted in `num_long`."""

    def __init__(self, text: io.TextIOWrapper, limit: int) -> None:
        self.num_long = 0
        self._text, self._limit = text, limit
        self._begins_row = True

    def rows(self, reader: Iterator[list[str]]) -> Iterator[list[str]]:
        """What the reader makes of the lines, and an empty row at the end."""
        cells: list[str] | None = []
        while cells is not None:
            self._begins_row = True
            cells = next(reader, None)
            yield cells or []

    def __iter__(self) -> Iterator[str]:
        while line := self._text.readline(self._limit + 1):
            if len(line) <= self._limit:
                self._begins_row = False
                yield line
            elif not self._begins_row:
                raise FileRejected("file_unreadable", f"a row of more than {self._limit} characters; is a quotation mark missing?")
            else:
                self.num_long += 1
                while len(line) > self._limit and not line.endswith(("\n", "\r")):
                    line = self._text.readline(self._limit + 1)


def _csv(stream: Any, bounds: Ingest) -> Iterator[RawBatch]:
    csv.field_size_limit(bounds.max_row_bytes)
    with io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        lines = _CsvLines(text, bounds.max_row_bytes)
        reader = csv.reader(lines, strict=True)
        names = next(reader, [])
        if not names or lines.num_long:
            raise FileRejected("file_unreadable", "an empty CSV file; expected a header line")
        if len(set(names)) != len(names):
            raise FileRejected("duplicate_column", f"each column once, found {', '.join(names)}")
        gathering = _Gathering(bounds)
        numbers = itertools.count()
        for cells in lines.rows(reader):
            for _ in range(lines.num_long):
                gathering.add_broken(next(numbers), "row_too_long", f"more than {bounds.max_row_bytes} characters", "")
            lines.num_long = 0
            if cells and len(cells) != len(names):
                detail = f"expected {len(names)} fields, found {len(cells)}"
                gathering.add_broken(next(numbers), "line_unparsable", detail, as_json({"fields": cells}))
            elif cells:
                row = {name: cell or None for name, cell in zip(names, cells, strict=True)}
                gathering.add(next(numbers), row, None, sum(map(len, cells)))
            if gathering.full:
                yield gathering.take(names)
                gathering = _Gathering(bounds)
        yield gathering.take(names)


# File suffix -> reader of an open binary stream.
READERS: dict[str, Callable[[Any, Ingest], Iterator[RawBatch]]] = {".parquet": _parquet, ".jsonl": _jsonl, ".csv": _csv}
