"""What the ledger already knows of the rows that a delivery touches."""

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from upheld.feature_store.ingest.readers import as_json
from upheld.feature_store.ingest.resolution import ACCEPTED, DETAILS, PENDING, QUARANTINED
from upheld.feature_store.ingest.staging import INDEX
from upheld.feature_store.ledger import tables as contracts
from upheld.feature_store.ledger.ledger import Change

# Scanned rows are compared with what a delivery names in slices of this size.
_ROWS_AT_ONCE = 1_000_000
_PARSED_AT_ONCE = 100_000
_PLACES = {PENDING: "pending", QUARANTINED: "quarantine"}
_BOOKKEEPING = tuple(field.name for field in contracts.BOOKKEEPING)


def place(table: str, status: str) -> str:
    """The ledger table that holds rows of `table` with this status."""
    return _PLACES.get(status, table)


def matching(change: Change, table: str, columns: Sequence[str], **wanted: pa.Array) -> pa.Table:
    """Rows of a ledger table in which one of several columns has one of the values wanted in it.

    Args:
        change: the ledger, as written so far.
        table: table of the ledger.
        columns: columns to return.
        wanted: column -> values. Without values nothing matches.
    """
    schema = pa.schema([contracts.LEDGER[table].field(name) for name in columns])
    sought = {name: values for name, values in wanted.items() if len(values)}
    if not sought:
        return schema.empty_table()
    names = list(dict.fromkeys([*columns, *sought]))
    return pa.concat_tables([schema.empty_table(), *(_hits(part, sought).select(columns) for part in _slices(change.now(table, names)))])


def chunks(rows: pa.Table) -> Iterator[pa.Table]:
    """The rows a bounded number at a time: as Python values they take many times their room."""
    yield from (rows.slice(start, _PARSED_AT_ONCE) for start in range(0, len(rows), _PARSED_AT_ONCE))


def _hits(rows: pa.Table, sought: dict[str, pa.Array]) -> pa.Table:
    mask = None
    for name, values in sought.items():
        hit = pc.is_in(rows[name], value_set=values)
        mask = hit if mask is None else pc.or_(mask, hit)
    return rows.filter(mask)


def _slices(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    held: list[pa.RecordBatch] = []
    num_rows = 0
    for batch in batches:
        held.append(batch)
        num_rows += batch.num_rows
        if num_rows >= _ROWS_AT_ONCE:
            yield pa.Table.from_batches(held)
            held, num_rows = [], 0
    if held:
        yield pa.Table.from_batches(held)


def known_claims(change: Change, table: str, keys: pa.Array, posts: pa.Array) -> pd.DataFrame:
    """Well-formed rows that have to be judged again.

    Args:
        change: the ledger, as written so far.
        table: a delivered table.
        keys: keys that a delivery brought.
        posts: posts of which it changed what is known.

    Returns:
        columns `INDEX`, recorded_at, status, reason: every row with one of the keys, or with the key of a row about one of the posts.
    """
    contract = contracts.DELIVERED[table]
    about = matching(change, table, [contract.key], post_id=posts)[contract.key]
    held = {status: _only(table, matching(change, where, ["key", "table"], post_id=posts))["key"] for status, where in _PLACES.items()}
    affected = pa.concat_tables([pa.table({"key": column.cast(pa.string())}) for column in (keys, about, *held.values())])["key"].unique()
    return pd.concat([_accepted(change, table, affected), *(_held(change, table, status, affected) for status in held)], ignore_index=True)


def _only(table: str, rows: pa.Table) -> pa.Table:
    return rows.filter(pc.equal(rows["table"], table))


def _accepted(change: Change, table: str, keys: pa.Array) -> pd.DataFrame:
    contract = contracts.DELIVERED[table]
    names = [name for name in contracts.LEDGER[table].names if name in (*INDEX.names, contract.key, "recorded_at")]
    rows = matching(change, table, names, **{contract.key: keys})
    return _as_claims(table, rows).assign(status=ACCEPTED, reason="")


def _held(change: Change, table: str, status: str, keys: pa.Array) -> pd.DataFrame:
    records = _only(table, matching(change, _PLACES[status], contracts.QUARANTINE.names, key=keys))
    records = records.filter(records["well_formed"])
    parts = [_as_claims(table, rows_of(table, part)).assign(reason=part["reason"].to_pandas()) for part in chunks(records)]
    return pd.concat([_as_claims(table, contracts.LEDGER[table].empty_table()), *parts], ignore_index=True).assign(status=status)


def _as_claims(table: str, rows: pa.Table) -> pd.DataFrame:
    contract = contracts.DELIVERED[table]
    columns: dict[str, Any] = {}
    for field in INDEX:
        name = contract.key if field.name == "key" else field.name
        columns[field.name] = rows[name] if name in rows.column_names else pa.nulls(len(rows), field.type)
    claims: pd.DataFrame = pa.table(columns | {"recorded_at": rows["recorded_at"]}).cast(CLAIMS).to_pandas()
    return claims.fillna({"revision": 0}).astype({"revision": "int64"})


CLAIMS = pa.schema([*INDEX, pa.field("recorded_at", contracts.TIMESTAMP)])


def rows_of(table: str, records: pa.Table) -> pa.Table:
    """Well-formed rows back from the records in which quarantine or pending keep them.

    Args:
        table: the delivered table that they belong to.
        records: columns `contracts.QUARANTINE`.

    Returns:
        columns as the ledger has them in that table.
    """
    contract = contracts.DELIVERED[table]
    contents = [json.loads(raw) for raw in records["raw"].to_pylist()]
    columns = [pa.array([_value(row.get(field.name), field.type) for row in contents], field.type) for field in _content(table)]
    kept = {name: records[name] for name in _BOOKKEEPING if name != "valid_at"}
    by_name = dict(zip(contract.schema.names, columns, strict=True)) | kept
    by_name["valid_at"] = by_name[contract.time]
    return pa.table([by_name[name] for name in contracts.LEDGER[table].names], schema=contracts.LEDGER[table])


def _content(table: str) -> list[pa.Field]:
    return [contracts.LEDGER[table].field(name) for name in contracts.DELIVERED[table].schema.names]


def _value(value: Any, kind: pa.DataType) -> Any:
    return datetime.fromisoformat(value) if pa.types.is_timestamp(kind) else value


def records_of(table: str, rows: pa.Table, reasons: Iterable[str]) -> pa.Table:
    """Records for quarantine or pending, from which `rows_of` gets the rows back.

    Args:
        table: the delivered table that the rows belong to.
        rows: columns as the ledger has them in that table.
        reasons: one a row.

    Returns:
        columns `contracts.QUARANTINE`.
    """
    contract = contracts.DELIVERED[table]
    why = list(reasons)
    raw = [as_json(row) for row in rows.select(contract.schema.names).to_pylist()]
    columns = {
        "table": pa.array([table] * len(rows)),
        "key": rows[contract.key],
        "reason": pa.array(why, pa.string()),
        "detail": pa.array([DETAILS[reason] for reason in why], pa.string()),
        "raw": pa.array(raw, pa.string()),
        "well_formed": pa.array([True] * len(rows), pa.bool_()),
    }
    fields = list(contracts.QUARANTINE)
    arrays = [columns.get(field.name, _or_null(rows, field)).cast(field.type) for field in fields]
    return pa.table(arrays, schema=contracts.QUARANTINE)


def _or_null(rows: pa.Table, field: pa.Field) -> Any:
    return rows[field.name] if field.name in rows.column_names else pa.nulls(len(rows), field.type)
