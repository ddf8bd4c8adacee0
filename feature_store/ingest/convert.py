"""One delivered column to its contract's type: at once where every value fits, value by value where some do not."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from upheld.feature_store.contracts import tables as contracts
from upheld.feature_store.ingest.readers import FileRejected

# What a column is turned into: the values (null where a value is missing or bad) and what is wrong with which rows.
# Faults: reason -> bool (N,).
Faults = dict[str, np.ndarray]
Converted = tuple[pa.Array, Faults]

_ZONED = r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}:?\d{2})$"
_NAIVE = re.compile(r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?)?$")
# Years 1 to 9999, the range of Python's datetime, in microseconds since 1970.
EARLIEST_US = -62_135_596_800 * 10**6
LATEST_US = 253_402_300_800 * 10**6 - 1
_UNITS_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


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
    """Turn Python values into a contract's type; see `convert`."""
    family = family_of(kind)
    # Arrow would make of some values what is not meant: numbers of truth values, integers of fractions, lists of letters.
    if family == "integer":
        plain = all(value is None or type(value) is int for value in values)
    elif family == "number":
        plain = not any(isinstance(value, bool) for value in values)
    else:
        plain = family not in ("list", "media") or all(value is None or isinstance(value, list) for value in values)
    if plain:
        try:
            column = pa.array(values, pa.string() if family == "time" else kind)
            return times(column) if family == "time" else (column, {})
        except (pa.ArrowException, UnicodeError, TypeError, ValueError, OverflowError):
            pass
    return _one_by_one(values, kind)


def _one_by_one(values: list[Any], kind: pa.DataType) -> Converted:
    family = family_of(kind)
    kept: list[Any] = []
    faults: Faults = {}
    for index, value in enumerate(values):
        try:
            kept.append(None if value is None else _value(value, family))
        except _Bad as bad:
            kept.append(None)
            faults.setdefault(bad.args[0], np.zeros(len(values), bool))[index] = True
    return pa.array(kept, kind), faults


def _value(value: Any, family: str) -> Any:
    """One value as `family_of` its contract's type wants it."""
    if family == "text":
        return _text_value(value)
    if family == "time":
        return _time_value(value)
    try:
        if family in ("number", "integer"):
            if isinstance(value, bool) or not isinstance(value, str | bytes | int | float) or (isinstance(value, str) and "_" in value):
                raise _Bad("wrong_column_type")
            number = float(value)
            if family == "number":
                return number
            if not abs(number) <= 2**53 or number != int(number):  # NaN is not below anything
                raise _Bad("wrong_column_type")
            return int(number)
        items = json.loads(value) if isinstance(value, str | bytes) else value  # CSV writes lists as JSON
    except (ValueError, OverflowError, RecursionError) as error:
        raise _Bad("wrong_column_type") from error
    if not isinstance(items, list) or (family == "media" and not all(isinstance(item, dict) for item in items)):
        raise _Bad("wrong_column_type")
    if family == "list":
        return [None if item is None else _text_value(item) for item in items]
    return [{name: None if item.get(name) is None else _text_value(item[name]) for name in contracts.MEDIA.names} for item in items]


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
    return _one_by_one(column.to_pylist(), contracts.TIMESTAMP)


def convert(column: Any, kind: pa.DataType, name: str) -> Converted:
    """Turn a delivered column into the contract's type `kind`.

    Args:
        column: Arrow array (Parquet) or list of Python values (JSONL, CSV), N values.
        kind: type in the contract.
        name: of the column, for messages.

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
    converted = _from_arrow(column, kind)
    if converted is None:
        raise FileRejected("wrong_column_type", f"column {name}: expected {kind}, found {column.type}")
    return converted


def _from_arrow(column: pa.Array, kind: pa.DataType) -> Converted | None:
    """A typed Arrow column, as Parquet brings it; None where its type cannot be meant."""
    family, is_number = family_of(kind), (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
    if family in ("number", "integer") and any(matches(column.type) for matches in is_number):
        if family == "number":
            return column.cast(kind, safe=False), {}
        try:
            return column.cast(kind), {}
        except pa.ArrowInvalid:  # a fraction or too large
            return from_values(column.to_pylist(), kind)
    if family == "time" and pa.types.is_timestamp(column.type):
        per_second = _UNITS_PER_SECOND[column.type.unit]
        kept, faults = within_years(column, EARLIEST_US * per_second // 10**6, LATEST_US * per_second // 10**6)
        return kept.cast(kind, safe=False), faults
    if family in ("list", "media") and (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
        return _from_lists(column, kind)
    return None


def _from_lists(column: pa.Array, kind: pa.DataType) -> Converted | None:
    """A column of lists of texts or of media; None where its items cannot be meant."""
    items, wanted = column.type.value_type, kind.value_type
    if pa.types.is_struct(wanted):
        found = {items.field(index).name: items.field(index).type for index in range(items.num_fields)} if pa.types.is_struct(items) else {}
        fits = all(name in found and _textual(found[name]) for name in wanted.names)
    else:
        fits = _textual(items)
    if not fits:
        return None
    faults: Faults = {}
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        undecodable = np.zeros(len(column), bool)
        for index, scalar in enumerate(column):
            try:
                scalar.as_py()
            except UnicodeDecodeError:
                undecodable[index] = True
        column = pc.if_else(pa.array(undecodable), pa.scalar(None, column.type), column)
        faults["invalid_unicode"] = undecodable
    flat = pc.list_flatten(column)
    if pa.types.is_struct(wanted):
        parts = [pc.struct_field(flat, name).cast(pa.string()) for name in wanted.names]
        fields = [pa.field(wanted.field(index).name, wanted.field(index).type) for index in range(wanted.num_fields)]  # nullable
        flat = pa.StructArray.from_arrays(parts, fields=fields)
    lengths = pc.fill_null(pc.list_value_length(column), 0)
    offsets = np.concatenate([[0], np.cumsum(lengths.to_numpy(zero_copy_only=False))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), flat, mask=pc.is_null(column)), faults


def _textual(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind))


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
