"""Values of a delivered column to the contract's type one by one, for columns in which some do not fit."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from upheld.feature_store.ingest.readers import FileRejected
from upheld.feature_store.ledger import tables as contracts

# What a column is turned into: the values (null where a value is missing or bad) and what is wrong with which rows.
# Faults: reason -> bool (N,).
Faults = dict[str, np.ndarray]
Converted = tuple[pa.Array, Faults]

_ZONED = r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}:?\d{2})$"
_NAIVE = re.compile(r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?)?$")
# Years 1 to 9999, the range of Python's datetime, in microseconds since 1970.
EARLIEST_US = -62_135_596_800 * 10**6
LATEST_US = 253_402_300_800 * 10**6 - 1


class _Bad(Exception):
    """A value that cannot be converted; `args[0]` is the reason."""


def family_of(kind: pa.DataType) -> str:
    """How values of a contract's type are handled: text, integer, number, time, media or list."""
    for family, matches in _FAMILIES.items():
        if matches(kind):
            return family
    raise AssertionError(f"no contract has a column of type {kind}")


_FAMILIES: dict[str, Callable[[pa.DataType], bool]] = {
    "text": pa.types.is_string,
    "integer": pa.types.is_integer,
    "number": pa.types.is_floating,
    "time": pa.types.is_timestamp,
    "media": lambda kind: bool(pa.types.is_list(kind) and pa.types.is_struct(kind.value_type)),
    "list": pa.types.is_list,
}


def flags(column: Any) -> np.ndarray:
    """An Arrow column of booleans as bool (N,); null counts as False."""
    return np.asarray(pc.fill_null(column, False).to_numpy(zero_copy_only=False), dtype=bool)


def within_years(column: pa.Array, earliest: int, latest: int) -> Converted:
    """Times of the years 1 to 9999; others become null. The bounds are ticks of the column's unit."""
    ticks = column.cast(pa.int64())
    low, high = (pa.scalar(min(max(bound, -(2**63)), 2**63 - 1), pa.int64()) for bound in (earliest, latest))
    outside = pc.or_(pc.less(ticks, low), pc.greater(ticks, high))
    return pc.if_else(outside, pa.scalar(None, column.type), column), {"timestamp_unparsable": flags(outside)}


def from_values(values: list[Any], kind: pa.DataType) -> Converted:
    """Turn Python values into a contract's type; see `ingest_columns.convert`."""
    family = family_of(kind)
    if _plain(values, family):
        try:
            column = pa.array(values, pa.string() if family == "time" else kind)
            return times(column) if family == "time" else (column, {})
        except (pa.ArrowException, UnicodeError, TypeError, ValueError, OverflowError):
            pass
    return _one_by_one(values, kind, _VALUE[family])


def _plain(values: list[Any], family: str) -> bool:
    """False where Arrow would make of a value what is not meant: numbers of truth values, integers of fractions, lists of letters."""
    if family == "integer":
        return all(value is None or type(value) is int for value in values)
    if family == "number":
        return not any(isinstance(value, bool) for value in values)
    return family not in ("list", "media") or all(value is None or isinstance(value, list) for value in values)


def _one_by_one(values: list[Any], kind: pa.DataType, one: Callable[[Any], Any]) -> Converted:
    kept: list[Any] = []
    faults: Faults = {}
    for index, value in enumerate(values):
        try:
            kept.append(None if value is None else one(value))
        except _Bad as bad:
            kept.append(None)
            faults.setdefault(bad.args[0], np.zeros(len(values), bool))[index] = True
    return pa.array(kept, kind), faults


def _text_value(value: Any) -> str:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise _Bad("invalid_unicode") from error
    if not isinstance(value, str):
        raise _Bad("wrong_column_type")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise _Bad("invalid_unicode") from error
    return value


def _number_value(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, str | bytes | int | float) or (isinstance(value, str) and "_" in value):
        raise _Bad("wrong_column_type")
    try:
        return float(value)
    except (ValueError, OverflowError) as error:
        raise _Bad("wrong_column_type") from error


def _integer_value(value: Any) -> int:
    number = _number_value(value)
    if not abs(number) <= 2**53 or number != int(number):  # NaN is not below anything
        raise _Bad("wrong_column_type")
    return int(number)


def _list_value(value: Any) -> list[Any]:
    if isinstance(value, str | bytes):  # CSV writes lists as JSON
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise _Bad("wrong_column_type") from error
    if not isinstance(value, list):
        raise _Bad("wrong_column_type")
    return value


def _texts_value(value: Any) -> list[str | None]:
    return [None if item is None else _text_value(item) for item in _list_value(value)]


def _media_value(value: Any) -> list[dict[str, str | None]]:
    items = _list_value(value)
    if not all(isinstance(item, dict) for item in items):
        raise _Bad("wrong_column_type")
    names = contracts.MEDIA.names
    return [{name: None if item.get(name) is None else _text_value(item[name]) for name in names} for item in items]


def _time_value(value: Any) -> datetime:
    text = _text_value(value) if isinstance(value, str | bytes) else str(value)
    if _NAIVE.match(text):
        raise _Bad("timestamp_naive" if _parsed(text) else "timestamp_unparsable")
    moment = _parsed(text) if re.match(_ZONED, text) else None
    if moment is None:
        raise _Bad("timestamp_unparsable")
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise _Bad("timestamp_unparsable") from error


def _parsed(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def times(column: pa.Array) -> Converted:
    """Timestamps from text: ISO 8601 with a zone; without one they are `timestamp_naive`, others `timestamp_unparsable`."""
    zoned = pc.match_substring_regex(column, _ZONED)
    if pc.all(pc.fill_null(zoned, True)).as_py():
        try:
            return within_years(column.cast(contracts.TIMESTAMP), EARLIEST_US, LATEST_US)
        except pa.ArrowInvalid:
            pass
    return _one_by_one(column.to_pylist(), contracts.TIMESTAMP, _time_value)


_VALUE: dict[str, Callable[[Any], Any]] = {
    "text": _text_value,
    "integer": _integer_value,
    "number": _number_value,
    "time": _time_value,
    "list": _texts_value,
    "media": _media_value,
}


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
