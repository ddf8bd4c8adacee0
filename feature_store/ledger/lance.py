"""Lance tables: what the ledger and the feature store do to them alike. The only module that touches LanceDB.

A database is a folder, or a prefix of an object store (`s3://…`, credentials from the environment); every write makes one version.
"""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import lancedb
import pyarrow as pa

from upheld.common.errors import BadUse, FailedWork

BATCH_ROWS = 65_536
_VALUES_AT_ONCE = 20_000  # in one SQL list; a delete of more makes several versions


def connect(location: Path | str) -> Any:
    """The database in a local folder, or under an object store's prefix."""
    return lancedb.connect(location)


def tables(database: Any) -> set[str]:
    """Names of a database's tables."""
    found: set[str] = set()
    token = None
    while True:
        page = database.list_tables(page_token=token)
        found |= set(page.tables)
        token = page.page_token
        if not token:
            return found


def create(database: Any, name: str, schema: pa.Schema) -> int:
    """Make an empty table. Returns its version."""
    return int(database.create_table(name, schema=schema).version)


def open_at(database: Any, name: str, version: int | None, label: str) -> Any:
    """Open a table for reading.

    Args:
        database: as `connect` gave it.
        name: the table.
        version: its Lance version; None takes the latest.
        label: what the database is called in an error.

    Raises:
        BadUse: it has no such version.
    """
    handle = database.open_table(name)
    if version is not None:
        try:
            handle.checkout(version)
        except (ValueError, RuntimeError) as error:
            raise BadUse(f"{label} table {name}: there is no version {version}") from error
    return handle


def open_to_write(database: Any, name: str, committed: int, label: str) -> Any:
    """Open a table for writing on from a version; what a killed writer left beyond it is undone."""
    handle = open_at(database, name, committed, label)
    handle.checkout_latest()
    if handle.version != committed:
        handle.checkout(committed)
        handle.restore()
    return handle


def scan(handle: Any, schema: pa.Schema, where: str | None = None) -> Iterator[pa.RecordBatch]:
    """Columns of an open table with the types of `schema`, batch by batch, in no order; `where` is an SQL condition on any column."""
    query = handle.search().select(schema.names)
    if where is not None:
        query = query.where(where)
    for batch in query.to_batches(BATCH_ROWS):
        yield batch.cast(schema)


def upsert(handle: Any, identity: Sequence[str], schema: pa.Schema, rows: pa.Table | Iterable[pa.RecordBatch]) -> None:
    """Write rows (with the columns of `schema`) in one version, replacing those with the same values in the columns `identity`."""
    batches = (batch.cast(schema) for batch in (rows.to_batches() if isinstance(rows, pa.Table) else rows) if batch.num_rows)
    merge = handle.merge_insert(list(identity))
    reader = pa.RecordBatchReader.from_batches(schema, batches)
    # LanceDB takes null for a bad vector, which it is not: a content without features has none.
    merge.when_matched_update_all().when_not_matched_insert_all().execute(reader, on_bad_vectors="null")


def delete(handle: Any, column: str, values: Iterable[str]) -> None:
    """Delete the rows whose `column` is one of `values`; older versions keep them until `forget_versions`."""
    for condition in one_of(column, values, _VALUES_AT_ONCE):
        handle.delete(condition)


def one_of(column: str, values: Iterable[str], at_once: int) -> Iterator[str]:
    """SQL conditions that together say that a column is one of some values, at most `at_once` values each."""
    wanted = sorted(set(values))
    for start in range(0, len(wanted), at_once):
        yield f"{column} IN ({quoted(wanted[start : start + at_once])})"


def compact(handle: Any, keep: timedelta) -> None:
    """Join small files, and drop those versions older than `keep` that no tag holds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of readers of old versions: the callers know
        handle.optimize(cleanup_older_than=keep)


def forget_versions(handle: Any, label: str) -> None:
    """Rewrite a table without its deleted rows, and delete every file that only older versions or killed writers used.

    Raises:
        FailedWork: a tag holds an older version; nothing of the latest is lost.
    """
    handle.restore(handle.version)  # the same rows in a further version: the one of the deletion names what was deleted
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            handle.optimize(cleanup_older_than=timedelta(0), delete_unverified=True)
        except (RuntimeError, ValueError) as error:
            if "tagged" not in str(error):
                raise
            raise FailedWork(f"{label} table {handle.name}: a run still holds an older version; delete again once it has ended") from error


def quoted(values: Iterable[str]) -> str:
    """Values as the inside of an SQL list."""
    return ", ".join("'" + value.replace("'", "''") + "'" for value in values)
