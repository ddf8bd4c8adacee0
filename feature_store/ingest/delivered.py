"""A delivered table for those who read it without a ledger: what ingest would put into quarantine is an error here."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from upheld.common.errors import BadUse
from upheld.common.params.data import Ingest
from upheld.feature_store.contracts import tables as contracts
from upheld.feature_store.ingest.convert import convert, flags
from upheld.feature_store.ingest.readers import READERS, FileRejected, RawBatch

_ALLOWED = {"action": contracts.ACTIONS, "verdict": contracts.VERDICTS, "source": contracts.SOURCES}


def read(path: Path, table: str, columns: Sequence[str], ingest: Ingest, *, also: Sequence[str] = ()) -> Iterator[pa.Table]:
    """Chosen columns of a delivered table, batch by batch.

    Args:
        path: a Parquet, JSONL or CSV file, or a folder of them at any depth; names that begin with `.` or `_` are left alone.
        table: a key of `contracts.DELIVERED`.
        columns: names of the contract; those that it calls optional may be absent and are null then.
        ingest: bounds of what is held in memory, and the least inclusion probability.
        also: further columns of text, null where the file has none.

    Yields:
        tables with those columns in that order and the contract's types; no required value is null, scores and probabilities lie in
        their range, actions, verdicts and sources are known.

    Raises:
        BadUse: nothing is there, a file cannot be read, a column is missing, or a value breaks its contract; names file, row and column.
    """
    contract = contracts.DELIVERED[table]
    fields = [contract.schema.field(name) for name in columns] + [pa.field(name, pa.string()) for name in also]
    if not path.exists():
        raise BadUse(f"{path}: no such file or folder; expected a table of {table} ({', '.join(READERS)})")
    found = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith((".", "_"))) if path.is_dir() else [path]
    wrong = [file for file in found if file.suffix.lower() not in READERS]
    if wrong or not found:
        raise BadUse(f"{(wrong or [path])[0]}: expected a table of {table} as {', '.join(READERS)}")
    for file in found:
        try:
            with file.open("rb") as stream:
                for batch in READERS[file.suffix.lower()](stream, ingest):
                    yield _checked(batch, fields, {*contract.optional, *also}, ingest, file, table)
        except FileRejected as error:
            raise BadUse(f"{file}: {error}") from error
        except (OSError, pa.ArrowException, csv.Error) as error:
            message = " ".join(str(error).split())[:200]
            raise BadUse(f"{file}: cannot be read as {file.suffix[1:].upper()}: {message}") from error


def _checked(batch: RawBatch, fields: list[pa.Field], optional: set[str], ingest: Ingest, file: Path, table: str) -> pa.Table:
    for row in batch.broken:
        raise BadUse(f"{file}: row {row.row_number + 1}: {row.reason}: {row.detail}")
    absent = [field.name for field in fields if field.name not in batch.columns and field.name not in optional]
    if absent and (batch.header or batch.row_numbers):
        raise BadUse(f"{file}: no column {absent[0]!r}; expected a table of {table}, it has {', '.join(list(batch.columns)[:30])}")
    arrays = []
    for field in fields:
        if field.name not in batch.columns:
            arrays.append(pa.nulls(len(batch.row_numbers), field.type))
            continue
        values, faults = convert(batch.columns[field.name], field.type, field.name)
        reason = next((reason for reason, rows in faults.items() if rows.any()), None)
        bad, expected = (faults[reason], f"{field.type} ({reason})") if reason else _out_of_contract(values, field, ingest)
        if field.name == "inclusion_prob" and "source" in batch.columns:
            targeted = pc.equal(convert(batch.columns["source"], pa.string(), "source")[0], contracts.TARGETED)
            bad = bad & ~flags(pc.and_kleene(targeted, pc.is_null(values)))
        if bad.any():
            index = int(np.flatnonzero(bad)[0])
            found = batch.columns[field.name][index]
            found = found.as_py() if isinstance(found, pa.Scalar) else found
            row_number = batch.row_numbers[index] + 1
            raise BadUse(f"{file}: row {row_number}, column {field.name}: found {str(found)[:80]!r}, expected {expected}")
        arrays.append(values)
    return pa.table(arrays, schema=pa.schema([field.with_nullable(True) for field in fields]))


def _out_of_contract(values: pa.Array, field: pa.Field, ingest: Ingest) -> tuple[np.ndarray, str]:
    """bool (N,): rows whose value is no value of the column; and what was expected."""
    if field.name in ("score", "inclusion_prob"):
        least = 0 if field.name == "score" else ingest.min_inclusion_prob
        inside = pc.and_(pc.greater_equal(values, least), pc.less_equal(values, 1))
        return ~flags(inside), f"a number from {least:g} to 1"
    if field.name in _ALLOWED:
        return ~flags(pc.is_in(values, pa.array(_ALLOWED[field.name]))), " / ".join(_ALLOWED[field.name])
    if field.nullable:
        return np.zeros(len(values), bool), ""
    blank = pc.equal(values, "") if pa.types.is_string(values.type) else False
    return flags(pc.or_kleene(pc.is_null(values), blank)), "a value"
