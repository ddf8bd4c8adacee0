"""The ledger: every table of what we know, as Lance tables; its commit marker; the digest of what it states.

Readers see what the last commit names in `commit.json`; whatever a killed writer left beyond that is undone by the next one.
"""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from upheld.common import files
from upheld.common.errors import BadUse
from upheld.feature_store.contracts import hashing, tables
from upheld.feature_store.ledger import lance

MARKER = "commit.json"
# What identifies a row where an upsert meets an existing one.
_IDENTITY = {
    "audit_draws": ["draw_id"],
    "media": ["digest"],
    "refused_posts": ["post_id"],
    "deliveries": ["delivery", "as_of"],
}
# The tables that make up the ledger's content, each with the columns that say what a row states.
_CONTENT = {
    "tombstones": ["row_digest"],
    "posts": ["row_digest"],
    "decisions": ["row_digest"],
    "review_outcomes": ["row_digest"],
    "logo_outcomes": ["row_digest"],
    "audit_draws": ["draw_id", "post_id", "category", "language", "zone", "inclusion_prob", "drawn_at"],
    "pending": ["row_digest", "reason"],
    "quarantine": ["row_digest", "reason"],
    "media": ["digest"],
    "refused_posts": ["post_id"],
}


@dataclass(frozen=True)
class Commit:
    """What the commit marker says.

    Attributes:
        versions: table -> Lance version that readers see.
        as_of: the latest `as of` of an ingest that changed something, ISO 8601 in UTC; None before the first.
        synthetic: True if any delivery came from our generator.
        validation: how the last accepted batch fared (`feature_store/ingest/expectations.py`); empty before the first.
    """

    versions: dict[str, int]
    as_of: str | None = None
    synthetic: bool = False
    validation: dict[str, Any] = field(default_factory=dict)


def read_marker(folder: Path) -> Commit:
    """The last commit of the ledger in this folder.

    Raises:
        FileNotFoundError: there was none yet.
    """
    return Commit(**json.loads((folder / MARKER).read_text(encoding="utf-8")))


def write_marker(folder: Path, commit: Commit) -> None:
    """Make a commit the last one, whole or not at all."""
    files.write_json(folder / MARKER, asdict(commit))


def content_digest(read: Callable[[str, list[str]], pa.Table]) -> str:
    """Digest of a ledger's content; `read` gives the named columns of a table."""
    contents = {table: read(table, columns) for table, columns in _CONTENT.items()}
    # A post that a tombstone names is refused anyway; whether its author was known when they were forgotten depends on the order.
    named = read("tombstones", ["post_id"])["post_id"]
    refused = contents["refused_posts"]
    contents["refused_posts"] = refused.filter(pc.invert(pc.is_in(refused["post_id"], named.combine_chunks())))
    digests = {}
    for table, rows in contents.items():
        joined = pc.binary_join_element_wise(*[column.cast(pa.string()) for column in rows.columns], "\x1f")
        ordered = joined.combine_chunks().sort() if len(rows) else pa.array([], pa.string())
        digests[table] = hashing.of_bytes("\n".join(ordered.to_pylist()).encode())
    return hashing.of_json(digests)


class Ledger:
    """The ledger in one store folder, as of its last commit.

    Raises:
        BadUse: there is no ledger in it.
    """

    def __init__(self, store: Path) -> None:
        self._folder = Path(store) / "ledger"
        try:
            self.commit = read_marker(self._folder)
        except FileNotFoundError as error:
            raise BadUse(f"{store}: no ledger here; `upheld ingest DELIVERY --store {store}` makes one") from error
        self._database = lance.connect(self._folder)

    @property
    def as_of(self) -> datetime | None:
        """The latest `as of` of an ingest that changed something; None before the first."""
        return datetime.fromisoformat(self.commit.as_of) if self.commit.as_of else None

    @property
    def synthetic(self) -> bool:
        """True if any delivery came from our generator."""
        return self.commit.synthetic

    @property
    def validation(self) -> dict[str, Any]:
        """How the last accepted batch fared: `{"success": bool, "checks": [...]}`; empty before the first."""
        return self.commit.validation

    @property
    def versions(self) -> dict[str, int]:
        """Table -> committed Lance version."""
        return dict(self.commit.versions)

    def read(self, table: str, columns: Sequence[str] | None = None, where: str | None = None, version: int | None = None) -> pa.Table:
        """Rows of one table.

        Args:
            table: a key of `contracts.LEDGER`.
            columns: columns to return; None returns all.
            where: SQL condition on the table's columns.
            version: Lance version; None takes the committed one.

        Returns:
            an Arrow table in no particular order, with the types of `contracts.LEDGER`.

        Raises:
            BadUse: no such table, or no such version.
        """
        schema = _schema(table, columns)
        return pa.Table.from_batches(self.scan(table, columns, where, version), schema=schema)

    def scan(
        self, table: str, columns: Sequence[str] | None = None, where: str | None = None, version: int | None = None
    ) -> Iterator[pa.RecordBatch]:
        """As `read`, batch by batch, so that memory does not grow with the table."""
        schema = _schema(table, columns)
        wanted = self.commit.versions[table] if version is None else version
        yield from lance.scan(lance.open_at(self._database, table, wanted, "ledger"), schema, where)

    def media_bytes(self, digests: Iterable[str], version: int | None = None) -> Iterator[tuple[str, bytes]]:
        """Bytes of media files.

        Args:
            digests: SHA-256 of each wanted file, hexadecimal.
            version: Lance version of the media table; None takes the committed one.

        Yields:
            (digest, bytes) in no particular order; a digest that the table does not hold is left out.
        """
        for where in lance.one_of("digest", digests, 256):
            for batch in self.scan("media", ["digest", "bytes"], where, version):
                yield from zip(batch["digest"].to_pylist(), batch["bytes"].to_pylist(), strict=True)

    def content_digest(self, versions: dict[str, int] | None = None) -> str:
        """Digest of what the ledger states, whatever the order, times and files in which it learned it.

        It is that of the committed versions of the tables, or of those given.
        """
        at = self.commit.versions if versions is None else versions
        return content_digest(lambda table, columns: self.read(table, columns, version=at[table]))


class Change:
    """Writes to the ledger that become visible together at `commit`, or not at all."""

    def __init__(self, ledger: Ledger, scratch: Path) -> None:
        self.ledger = ledger
        self.scratch = scratch
        self._open: dict[str, Any] = {}

    @property
    def made(self) -> bool:
        """True once something was written."""
        return bool(self._open)

    def upsert(self, table: str, rows: pa.Table | Iterable[pa.RecordBatch]) -> None:
        """Write rows, replacing those with the same identity (row digest; draw; media digest; …).

        Args:
            table: a key of `contracts.LEDGER`.
            rows: an Arrow table, or batches of any number; columns and types as in the contract.
        """
        lance.upsert(self._table(table), _IDENTITY.get(table, ["row_digest"]), tables.LEDGER[table], rows)

    def delete(self, table: str, column: str, values: Iterable[str]) -> None:
        """Delete the rows whose `column` is one of `values`."""
        doomed = sorted(set(values))
        if doomed:
            lance.delete(self._table(table), column, doomed)

    def now(self, table: str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Batches of the table as this change has left it so far."""
        yield from self.ledger.scan(table, columns, version=self._open[table].version if table in self._open else None)

    def commit(self, **fields: Any) -> None:
        """Make everything written so far visible, in one rename; `fields` are those of `Commit` that change besides the versions."""
        versions = self.ledger.versions | {table: int(handle.version) for table, handle in self._open.items()}
        after = replace(self.ledger.commit, versions=versions, **fields)
        if after != self.ledger.commit:
            write_marker(self.ledger._folder, after)
            self.ledger.commit = after
        self._open = {}

    def _table(self, table: str) -> Any:
        if table not in self._open:
            self._open[table] = lance.open_to_write(self.ledger._database, table, self.ledger.versions[table], "ledger")
        return self._open[table]


@contextmanager
def writing(store: Path) -> Iterator[Change]:
    """Open the ledger for writing, making it if there is none; one writer at a time.

    Yields:
        the change; nothing of it is seen unless its `commit` is called. `Change.scratch` is an empty folder for its duration.

    Raises:
        BadUse: the store cannot be made.
        FailedWork: another process is writing.
    """
    folder = Path(store) / "ledger"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadUse(f"--store {store}: cannot be made ({error.strerror}); name a folder that may be written to") from error
    with files.only_writer(folder / ".lock", "ledger"):
        if not (folder / MARKER).exists():
            database = lance.connect(folder)
            database.drop_all_tables()  # a writer killed before its first marker
            write_marker(folder, Commit({name: lance.create(database, name, schema) for name, schema in tables.LEDGER.items()}))
        scratch = folder / ".scratch"
        shutil.rmtree(scratch, ignore_errors=True)  # left by a killed writer
        scratch.mkdir()
        try:
            yield Change(Ledger(store), scratch)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def record_draws(store: Path, draws: pa.Table) -> None:
    """Keep audit draws: the authority on the inclusion probability of every outcome that names one of them.

    Args:
        draws: columns as `contracts.AUDIT_DRAWS`.

    Raises:
        BadUse: a draw_id stands for draws of different content; nothing is written then.
        FailedWork: another process is writing.
    """
    draws = draws.select(tables.AUDIT_DRAWS.names).cast(tables.AUDIT_DRAWS)
    with writing(store) as change:
        known = change.ledger.read("audit_draws")
        distinct = pa.concat_tables([known, draws]).group_by(draws.column_names).aggregate([])
        names = distinct["draw_id"].to_pandas()
        if names.duplicated().any():
            clash = names[names.duplicated()].iloc[0]
            raise BadUse(f"audit_draws: column draw_id: {clash!r} stands for more than one draw; draw again with new ids")
        fresh = distinct.filter(pc.invert(pc.is_in(distinct["draw_id"], known["draw_id"])))
        if len(fresh):
            change.upsert("audit_draws", fresh)
            change.commit()


def _schema(table: str, columns: Sequence[str] | None) -> pa.Schema:
    if table not in tables.LEDGER:
        raise BadUse(f"ledger: no table {table!r}; it has {', '.join(tables.LEDGER)}")
    schema = tables.LEDGER[table]
    return schema if columns is None else pa.schema([schema.field(name) for name in columns])
