"""The feature store's tables: one an extractor, a row for each content and extractor version, on disk or on an object store.

Every write is one Lance version, whole or not at all: a killed writer leaves nothing that a reader sees. A run reads the versions that it
has pinned: what was known of a content, never what became known later.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from upheld.common.errors import BadUse, FailedWork
from upheld.feature_store.contracts.tables import TIMESTAMP
from upheld.feature_store.contracts.workspace import PinnedTable
from upheld.feature_store.ledger import lance

# What every table has besides its features.
#   digest             SHA-256 of the content, hexadecimal
#   extractor_version  code, parameters and weights that made the row
#   extracted_at       when it was made
#   reason, detail     why there are no features; null where there are
KEYS: Final = pa.schema(
    [
        pa.field("digest", pa.string(), nullable=False),
        pa.field("extractor_version", pa.string(), nullable=False),
        pa.field("extracted_at", TIMESTAMP, nullable=False),
        pa.field("reason", pa.string()),
        pa.field("detail", pa.string()),
    ]
)
_IDENTITY = ("digest", "extractor_version")
_DUE = "erasures_due"  # tables from which rows were deleted and whose older versions may still hold them
_FEW_DIGESTS = 10_000  # so many are looked up by an SQL list; for more the column is read


class FeatureStore:
    """The tables of one feature store.

    Args:
        location: a local folder, or an object store's prefix such as `s3://bucket/features` (credentials from the environment).
    """

    def __init__(self, location: Path | str) -> None:
        self.location = location
        self._remote = "://" in str(location)

    @property
    def versions(self) -> dict[str, int]:
        """Table -> its latest Lance version; empty where nothing was extracted yet."""
        return {name: int(self._open(name).version) for name in self._names()}

    def read(
        self,
        name: str,
        digests: Iterable[str] | None = None,
        columns: Sequence[str] | None = None,
        version: str | None = None,
        at: int | None = None,
        as_of: datetime | None = None,
    ) -> pa.Table:
        """What is known of contents: of each, the row that was extracted last.

        Args:
            name: the extractor.
            digests: of which contents; None takes all.
            columns: what to return besides digest; None returns all.
            version: extractor version; None takes whichever came last.
            at: Lance version of the table; None takes the latest.
            as_of: rows extracted later do not count; None counts all.

        Returns:
            digest and the columns, at most one row a content, in no particular order. Where there are no features, reason says why.

        Raises:
            BadUse: no such table, version or column.
        """
        handle = self._open(name, at)
        chosen = handle.schema.names if columns is None else list(dict.fromkeys(["digest", *columns]))
        if unknown := [column for column in chosen if column not in handle.schema.names]:
            raise BadUse(f"features table {name}: no column {unknown[0]!r}; it has {', '.join(handle.schema.names)}")
        wanted = pa.schema([handle.schema.field(column) for column in chosen])
        needed = pa.unify_schemas([wanted, pa.schema([KEYS.field("extracted_at")])])
        where = _conditions(version, as_of)
        named = None if digests is None else pa.array(set(digests), pa.string())
        if named is None:
            batches = lance.scan(handle, needed, where)
        elif len(named) <= _FEW_DIGESTS:
            lists = lance.one_of("digest", named.to_pylist(), _FEW_DIGESTS)
            batches = (batch for few in lists for batch in lance.scan(handle, needed, few if where is None else f"{where} AND {few}"))
        else:
            batches = (batch.filter(pc.is_in(batch["digest"], value_set=named)) for batch in lance.scan(handle, needed, where))
        rows = pa.Table.from_batches(batches, needed)
        if pc.count_distinct(rows["digest"]).as_py() < len(rows):  # of each digest the row with the greatest extracted_at
            order = pc.sort_indices(rows.select(["digest", "extracted_at"]), [("digest", "ascending"), ("extracted_at", "ascending")])
            names = rows["digest"].take(order).to_numpy()
            rows = rows.take(order.filter(pa.array(np.append(names[1:] != names[:-1], True))))
        return rows.select(wanted.names)

    def columns(self, name: str) -> list[str]:
        """Names of a table's columns, in order.

        Raises:
            BadUse: no such table.
        """
        return list(self._open(name).schema.names)

    def missing(self, name: str, version: str, digests: Iterable[str]) -> list[str]:
        """Those contents of which a table has no row of an extractor version, refused ones included; each once, in order."""
        wanted = pa.array(dict.fromkeys(digests), pa.string())
        if name not in self._names():
            return [str(digest) for digest in wanted.to_pylist()]
        batches = lance.scan(self._open(name), pa.schema([KEYS.field("digest")]), _conditions(version, None))
        known = pa.chunked_array([batch["digest"] for batch in batches], pa.string())
        missing: list[str] = wanted.filter(pc.invert(pc.is_in(wanted, value_set=known))).to_pylist()
        return missing

    def digests(self, name: str) -> pa.ChunkedArray:
        """Every content in a table, each once."""
        batches = lance.scan(self._open(name), pa.schema([KEYS.field("digest")]))
        return pa.chunked_array([batch["digest"] for batch in batches], pa.string()).unique()

    def write(self, name: str, rows: pa.Table) -> None:
        """Add rows, replacing those of the same content and extractor version; makes the table, or further columns, where needed.

        Args:
            name: the extractor.
            rows: columns `KEYS` and the features. Columns that the table has beyond these become null.

        Raises:
            FailedWork: a column has another type than in the table.
        """
        database = lance.connect(self.location)
        if name not in self._names():
            lance.create(database, name, rows.schema)
        handle = database.open_table(name)
        new = [field for field in rows.schema if field.name not in handle.schema.names]
        if new:
            handle.add_columns(pa.schema([field.with_nullable(True) for field in new]))
        columns = []
        for field in handle.schema:
            if field.name in rows.column_names and rows.schema.field(field.name).type != field.type:
                found = rows.schema.field(field.name).type
                raise FailedWork(f"features table {name}: column {field.name} is {field.type} in the store and {found} now; name it anew")
            columns.append(rows[field.name] if field.name in rows.column_names else pa.nulls(len(rows), field.type))
        lance.upsert(handle, _IDENTITY, handle.schema, pa.table(columns, schema=handle.schema))

    def erase(self, digests: Iterable[str]) -> dict[str, int]:
        """Delete contents from every table, their bytes from every file: older versions of the tables that change are gone, too.

        Killed in the middle, it is finished by the next call.

        Returns:
            table -> number of contents deleted.

        Raises:
            FailedWork: a run holds an older version; what is left to do is done by the next call.
        """
        doomed = pa.array(set(digests), pa.string())
        return self._delete({name: pc.filter(held := self.digests(name), pc.is_in(held, value_set=doomed)) for name in self._names()})

    def keep_only(self, digests: pa.ChunkedArray) -> dict[str, int]:
        """As `erase`, of every content but these."""
        held = {name: self.digests(name) for name in self._names()}
        return self._delete({name: pc.filter(found, pc.invert(pc.is_in(found, value_set=digests))) for name, found in held.items()})

    def _delete(self, doomed: dict[str, pa.ChunkedArray]) -> dict[str, int]:
        counts = {name: len(digests) for name, digests in doomed.items() if len(digests)}
        if counts:
            self._note_due(counts)
        for name in counts:
            lance.delete(self._open(name), "digest", doomed[name].to_pylist())
        for name in self._due():
            lance.forget_versions(self._open(name), "features")
            lance.delete(self._open(_DUE), "digest", [name])
        return counts

    def compact(self, name: str, keep: timedelta) -> None:
        """Join a table's small files; versions older than `keep` can no longer be read."""
        lance.compact(self._open(name), keep)

    def _names(self) -> list[str]:
        if not self._remote and not Path(self.location).is_dir():
            return []
        return sorted(lance.tables(lance.connect(self.location)) - {_DUE})

    def _open(self, name: str, at: int | None = None) -> Any:
        if name != _DUE and name not in (names := self._names()):
            known = ", ".join(names) or "none"
            raise BadUse(f"features {self.location}: no table {name!r} (there are: {known}); `upheld features --only {name}` makes it")
        return lance.open_at(lance.connect(self.location), name, at, "features")

    def _note_due(self, names: Iterable[str]) -> None:
        database = lance.connect(self.location)
        schema = pa.schema([KEYS.field("digest")])
        if _DUE not in lance.tables(database):
            lance.create(database, _DUE, schema)
        lance.upsert(database.open_table(_DUE), ["digest"], schema, pa.table({"digest": list(names)}, schema))

    def _due(self) -> list[str]:
        if (not self._remote and not Path(self.location).is_dir()) or _DUE not in lance.tables(lance.connect(self.location)):
            return []
        return [name for batch in lance.scan(self._open(_DUE), pa.schema([KEYS.field("digest")])) for name in batch["digest"].to_pylist()]


def _conditions(version: str | None, as_of: datetime | None) -> str | None:
    conditions = [] if version is None else [f"extractor_version = {lance.quoted([version])}"]
    if as_of is not None:
        conditions.append(f"extracted_at <= timestamp '{as_of.astimezone(UTC).isoformat()}'")
    return " AND ".join(conditions) or None


class Features(Protocol):
    """Where features of contents come from: the store, or extraction on the spot."""

    def rows(self, name: str, digests: Iterable[str], columns: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Digest -> row of each content that is known, features null where it was refused; empty where there is no such extractor."""


class PinnedFeatures:
    """The pinned tables of one store.

    Args:
        location: folder or prefix of the feature store.
        tables: by extractor; may be empty, and then nothing is opened.
    """

    def __init__(self, location: Path | str, tables: Mapping[str, PinnedTable]) -> None:
        self._store = FeatureStore(location)
        self._tables = tables

    @property
    def kinds(self) -> dict[str, str]:
        """Extractor -> what it reads: text, image, video or audio."""
        return {name: table.kind for name, table in self._tables.items()}

    def read(self, name: str, digests: Iterable[str], columns: Sequence[str]) -> pa.Table | None:
        """Columns `digest` and `columns` of the contents that are in a table; None where the extractor is not pinned."""
        if name not in self._tables:
            return None
        table = self._tables[name]
        return self._store.read(name, set(digests), columns, table.extractor_version, table.lance_version)

    def rows(self, name: str, digests: Iterable[str], columns: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Digest -> row of each content that is in a table; empty where the extractor is not pinned."""
        wanted = set(digests)
        table = self.read(name, wanted, columns) if wanted else None
        return {} if table is None else {row["digest"]: row for row in table.to_pylist()}

    def vectors(self, name: str, version: str, digests: Iterable[str]) -> dict[str, NDArray[np.float32]]:
        """Digest -> embedding float32 (D,) of each content that has one.

        Args:
            name: of an extractor with a column `embedding`.
            version: of the extractor; where another one is pinned nothing is found.
            digests: of the contents wanted.
        """
        wanted = set(digests)
        if name not in self._tables or self._tables[name].extractor_version != version or not wanted:
            return {}
        table = self.read(name, wanted, ["embedding", "reason"])
        assert table is not None
        made = table.filter(pc.is_null(table["reason"])).combine_chunks()
        if not len(made):
            return {}
        embeddings = made["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(len(made), -1)
        return dict(zip(made["digest"].to_pylist(), embeddings.astype(np.float32), strict=True))


NO_FEATURES = PinnedFeatures("nowhere", {})
