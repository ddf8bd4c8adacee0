"""Rows on their way from a delivered file: raw batches, rows that have no columns, files that have no rows."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


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


@dataclass(frozen=True)
class Bounds:
    """How much is held in memory at once, rows and bytes of a batch, bytes of one row; and bytes of a file, decoded."""

    batch_rows: int
    batch_bytes: int
    row_bytes: int
    file_bytes: int


def as_json(row: dict[str, Any]) -> str:
    """One row as one line of JSON; what JSON has no form for is written as text."""
    return json.dumps(row, default=_plain, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()


def _plain(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return str(value.isoformat()) if hasattr(value, "isoformat") else str(value)
