"""The feature store at the versions that a run has pinned: what was known of a content, never what became known later."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from upheld.feature_store.contracts.inputs import PinnedTable
from upheld.feature_store.features.table import FeatureStore


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


NO_FEATURES = PinnedFeatures("nowhere", {})
