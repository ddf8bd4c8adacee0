"""One delivered column to its contract's type: at once where every value fits, value by value where some do not."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from upheld.feature_store.ingest.batches import FileRejected
from upheld.feature_store.ingest.convert import EARLIEST_US, LATEST_US, Converted, family_of, from_values, times, within_years

_UNITS_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def convert(column: Any, kind: pa.DataType, name: str) -> Converted:
    """Turn a delivered column into the contract's type.

    Args:
        column: Arrow array (Parquet) or list of Python values (JSONL, CSV), N values.
        kind: type in the contract.
        name: column name, for messages.

    Returns:
        an array of `kind` (N,), and the faults: `wrong_column_type`, `invalid_unicode`, `timestamp_unparsable`, `timestamp_naive`.

    Raises:
        FileRejected: `wrong_column_type` or `timestamp_naive` where an Arrow column as a whole has a type that cannot be meant.
    """
    if isinstance(column, list):
        return from_values(column, kind)
    if isinstance(column.type, pa.DictionaryType):
        column = column.cast(column.type.value_type)
    if pa.types.is_string_view(column.type):
        column = column.cast(pa.string())
    if pa.types.is_null(column.type):
        return pa.nulls(len(column), kind), {}
    if pa.types.is_timestamp(column.type) and pa.types.is_timestamp(kind) and column.type.tz is None:
        raise FileRejected("timestamp_naive", f"column {name}: expected a UTC timestamp, found one without a time zone")
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type) or pa.types.is_binary(column.type):
        return _from_text(column, kind)
    converter = _ARROW.get(family_of(kind))
    converted = converter(column, kind) if converter else None
    if converted is None:
        raise FileRejected("wrong_column_type", f"column {name}: expected {kind}, found {column.type}")
    return converted


def _numeric(column: pa.Array) -> bool:
    return bool(pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_decimal(column.type))


def _arrow_number(column: pa.Array, kind: pa.DataType) -> Converted | None:
    return (column.cast(kind, safe=False), {}) if _numeric(column) else None


def _arrow_integer(column: pa.Array, kind: pa.DataType) -> Converted | None:
    if not _numeric(column):
        return None
    try:
        return column.cast(kind), {}
    except pa.ArrowInvalid:  # a fraction or too large
        return from_values(column.to_pylist(), kind)


def _arrow_time(column: pa.Array, kind: pa.DataType) -> Converted | None:
    if not pa.types.is_timestamp(column.type):
        return None
    per_second = _UNITS_PER_SECOND[column.type.unit]
    kept, faults = within_years(column, EARLIEST_US * per_second // 10**6, LATEST_US * per_second // 10**6)
    return kept.cast(kind, safe=False), faults


def _arrow_list(column: pa.Array, kind: pa.DataType) -> Converted | None:
    if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
        return None
    if not _items_fit(column.type.value_type, kind.value_type):
        return None
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        undecodable = np.array([not _decodable(scalar) for scalar in column])
        column = pc.if_else(pa.array(undecodable), pa.scalar(None, column.type), column)
        return _as_list(column, kind), {"invalid_unicode": undecodable}
    return _as_list(column, kind), {}


def _items_fit(items: pa.DataType, wanted: pa.DataType) -> bool:
    if not pa.types.is_struct(wanted):
        return _textual(items)
    found = {items.field(index).name: items.field(index).type for index in range(items.num_fields)} if pa.types.is_struct(items) else {}
    return all(name in found and _textual(found[name]) for name in wanted.names)


def _textual(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind))


def _decodable(scalar: pa.Scalar) -> bool:
    try:
        scalar.as_py()
    except UnicodeDecodeError:
        return False
    return True


def _as_list(column: pa.Array, kind: pa.DataType) -> pa.Array:
    flat = pc.list_flatten(column)
    if pa.types.is_struct(kind.value_type):
        parts = [pc.struct_field(flat, name).cast(pa.string()) for name in kind.value_type.names]
        flat = pa.StructArray.from_arrays(parts, fields=list(_nullable(kind.value_type)))
    lengths = pc.fill_null(pc.list_value_length(column), 0)
    offsets = np.concatenate([[0], np.cumsum(lengths.to_numpy(zero_copy_only=False))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), flat, mask=pc.is_null(column))


def _nullable(kind: pa.StructType) -> list[pa.Field]:
    return [pa.field(kind.field(index).name, kind.field(index).type) for index in range(kind.num_fields)]


_ARROW: dict[str, Callable[[pa.Array, pa.DataType], Converted | None]] = {
    "number": _arrow_number,
    "integer": _arrow_integer,
    "time": _arrow_time,
    "list": _arrow_list,
    "media": _arrow_list,
}


def _from_text(column: pa.Array, kind: pa.DataType) -> Converted:
    """A column of text: the way Parquet brings text, and CSV everything."""
    try:
        column = column.cast(pa.string())
        column.validate(full=True)
    except pa.ArrowInvalid:
        return from_values(column.cast(pa.binary()).to_pylist(), kind)
    family = family_of(kind)
    if family == "text":
        return column, {}
    if family == "time":
        return times(column)
    try:
        return column.cast(kind), {}
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return from_values(column.to_pylist(), kind)
