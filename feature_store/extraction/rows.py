"""What extractors return, as rows of a feature table."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from upheld.feature_store.decoding.contract import Refused
from upheld.feature_store.features.table import KEYS

Outcome = dict[str, Any] | Refused


def schema(columns: pa.Schema) -> pa.Schema:
    """Schema of an extractor's table.

    Args:
        columns: its features.
    """
    return pa.schema([*KEYS, *(field.with_nullable(True) for field in columns)])


def features(columns: pa.Schema, outcomes: Sequence[Outcome]) -> list[pa.Array]:
    """One array a column; null where a content was refused.

    Raises:
        ValueError, TypeError, KeyError: an outcome does not fit the columns (Arrow's errors are among the first two).
    """
    found = [outcome for outcome in outcomes if not isinstance(outcome, Refused)]
    strange = next((name for row in found for name in row if name not in columns.names), None)
    if strange is not None:
        raise KeyError(f"{strange} is no column")
    at = pa.array(_positions(outcomes), pa.int64())
    return [_array([row[field.name] for row in found], field.type).take(at) for field in columns]


def rows(columns: pa.Schema, digests: Sequence[str], outcomes: Sequence[Outcome], version: str, at: datetime) -> pa.Table:
    """Rows as they are written.

    Args:
        columns: the features.
        digests: of the contents.
        outcomes: what became of each.
        version: of the extractor.
        at: time of extraction.
    """
    refused = [outcome if isinstance(outcome, Refused) else None for outcome in outcomes]
    keys = [
        pa.array(digests, pa.string()),
        pa.array([version] * len(digests), pa.string()),
        pa.array([at] * len(digests), KEYS.field("extracted_at").type),
        pa.array([None if each is None else each.reason for each in refused], pa.string()),
        pa.array([None if each is None else each.detail for each in refused], pa.string()),
    ]
    return pa.table([*keys, *features(columns, outcomes)], schema=schema(columns))


def _positions(outcomes: Sequence[Outcome]) -> list[int | None]:
    """Of each outcome its place among those that have features."""
    here = iter(range(len(outcomes)))
    return [None if isinstance(outcome, Refused) else next(here) for outcome in outcomes]


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    """As pa.array; vectors of one length are joined as numbers, not one by one."""
    if pa.types.is_fixed_size_list(kind) and values and all(isinstance(value, np.ndarray) for value in values):
        flat = np.stack(values)
        if flat.shape != (len(values), kind.list_size):
            raise ValueError(f"expected vectors of {kind.list_size} numbers, got {flat.shape[1:]}")
        if not np.isfinite(flat).all():
            raise ValueError("a vector holds NaN or infinity")
        return pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1), kind.value_type), kind.list_size)
    return pa.array(values, kind)
