"""What the ledger already knows of the rows that a delivery touches."""

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from functools import reduce
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from upheld.feature_store.contracts import tables as contracts
from upheld.feature_store.ingest.conflicts import ACCEPTED, DETAILS, PENDING, QUARANTINED
from upheld.feature_store.ingest.readers import as_json
from upheld.feature_store.ingest.staging import INDEX, index_of
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
    found = [schema.empty_table()]
    for part in _slices(change.now(table, names)):
        hits = [pc.is_in(part[name], value_set=values) for name, values in sought.items()]
        found.append(part.filter(reduce(pc.or_, hits)).select(columns))
    return pa.concat_tables(found)


def chunks(rows: pa.Table) -> Iterator[pa.Table]:
    """The rows a bounded number at a time: as Python values they take many times their room."""
    yield from (rows.slice(start, _PARSED_AT_ONCE) for start in range(0, len(rows), _PARSED_AT_ONCE))


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
    held = [matching(change, where, ["key", "table"], post_id=posts) for where in _PLACES.values()]
    named = [keys, about, *(rows.filter(pc.equal(rows["table"], table))["key"] for rows in held)]
    affected = pa.concat_tables([pa.table({"key": column.cast(pa.string())}) for column in named])["key"].unique()
    names = [name for name in contracts.LEDGER[table].names if name in (*INDEX.names, contract.key, "recorded_at")]
    accepted = _as_claims(table, matching(change, table, names, **{contract.key: affected})).assign(status=ACCEPTED, reason="")
    claims = [accepted]
    for status, where in _PLACES.items():
        records = matching(change, where, contracts.QUARANTINE.names, key=affected)
        records = records.filter(pc.and_(pc.equal(records["table"], table), records["well_formed"]))
        parts = [_as_claims(table, rows_of(table, part)).assign(reason=part["reason"].to_pandas()) for part in chunks(records)]
        none = _as_claims(table, contracts.LEDGER[table].empty_table())
        claims.append(pd.concat([none, *parts], ignore_index=True).assign(status=status))
    return pd.concat(claims, ignore_index=True)


def _as_claims(table: str, rows: pa.Table) -> pd.DataFrame:
    claims: pd.DataFrame = index_of(table, rows).append_column("recorded_at", rows["recorded_at"]).to_pandas()
    return claims


def rows_of(table: str, records: pa.Table) -> pa.Table:
    """Well-formed rows of a delivered table, as the ledger has them, back from the records in which quarantine or pending keep them.

    The records have the columns `contracts.QUARANTINE`.
    """
    contract = contracts.DELIVERED[table]
    contents = [json.loads(raw) for raw in records["raw"].to_pylist()]
    by_name: dict[str, Any] = {}
    for field in (contracts.LEDGER[table].field(name) for name in contract.schema.names):
        values = [row.get(field.name) for row in contents]
        if pa.types.is_timestamp(field.type):
            values = [datetime.fromisoformat(value) for value in values]
        by_name[field.name] = pa.array(values, field.type)
    by_name |= {name: records[name] for name in _BOOKKEEPING if name != "valid_at"}
    by_name["valid_at"] = by_name[contract.time]
    return pa.table([by_name[name] for name in contracts.LEDGER[table].names], schema=contracts.LEDGER[table])


def records_of(table: str, rows: pa.Table, reasons: Iterable[str]) -> pa.Table:
    """Records for quarantine or pending, from which `rows_of` gets the rows of a delivered table back; with a reason for each row."""
    contract = contracts.DELIVERED[table]
    why = list(reasons)
    raw = [as_json(row) for row in rows.select(contract.schema.names).to_pylist()]
    columns: dict[str, Any] = {field.name: pa.nulls(len(rows), field.type) for field in contracts.QUARANTINE}
    columns |= {name: rows[name] for name in rows.column_names}
    columns |= {
        "table": pa.array([table] * len(rows)),
        "key": rows[contract.key],
        "reason": pa.array(why, pa.string()),
        "detail": pa.array([DETAILS[reason] for reason in why], pa.string()),
        "raw": pa.array(raw, pa.string()),
        "well_formed": pa.array([True] * len(rows), pa.bool_()),
    }
    return pa.table([columns[field.name].cast(field.type) for field in contracts.QUARANTINE], schema=contracts.QUARANTINE)
