"""Values of a score table, checked and brought to the contract's types; a bad one is named with file, row and column."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from upheld.common.errors import BadUse

NUMBERS = ("score", "label", "inclusion_prob")
MISSING_GROUP = "(missing)"
MIN_INCLUSION_PROB = 1e-6  # a row may stand for a million, no more: sums of larger weights say nothing, or are infinite


def checked(name: str, values: pa.Array, file: Path, first: int) -> pa.Array:
    """Check one column of a batch and give it the contract's type.

    Args:
        name: the contract's name of the column, or a group column's.
        values: as read.
        file: for errors.
        first: number of the batch's first row, from 1, for errors.

    Raises:
        BadUse: a value is missing where it must not be, no number, out of range, or the word `all`.
    """
    if name in NUMBERS:
        return _number(name, values, file, first)
    if name == "synthetic":
        return pc.equal(pc.utf8_lower(values.cast(pa.string())), "true").fill_null(False)
    if name in ("item_id", "category"):
        refuse(values.is_null(), file, first, name, values, "is missing")
    text = values if pa.types.is_dictionary(values.type) else values.cast(pa.string()).dictionary_encode()
    filled = text.fill_null("und" if name == "language" else MISSING_GROUP) if text.null_count else text
    if name not in ("item_id", "split"):
        refuse(_text_equal(filled, "all"), file, first, name, filled, "the word 'all' is kept for pooled cells")
    return filled


def _text_equal(values: pa.DictionaryArray, word: str) -> pa.Array:
    """Where dictionary-encoded text equals a word, looking at each distinct value once."""
    return pc.equal(values.dictionary, word).take(values.indices)


def _number(name: str, values: pa.Array, file: Path, first: int) -> pa.Array:
    probs = f"a number from {MIN_INCLUSION_PROB:g} to 1"
    expected = {"score": "a number in [0, 1]", "label": "0, 1 or nothing", "inclusion_prob": probs}[name]
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    try:
        numbers = values.cast(pa.float64())
    except pa.ArrowInvalid:
        bad = pa.array([not _is_number(value) for value in values.to_pylist()])
        refuse(bad, file, first, name, values, f"expected {expected}")
        raise
    numbers = pc.if_else(pc.is_nan(numbers), None, numbers) if name != "score" else numbers
    flat = numbers.fill_null(np.nan if name == "score" else 1.0).to_numpy(zero_copy_only=False)
    with np.errstate(invalid="ignore"):
        least = MIN_INCLUSION_PROB if name == "inclusion_prob" else 0
        good = (flat == 0) | (flat == 1) if name == "label" else (flat >= least) & (flat <= 1)
    refuse(pa.array(~good), file, first, name, values, f"expected {expected}")
    return numbers


def _is_number(value: object) -> bool:
    try:
        float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return value is None
    return True


def refuse(bad: pa.Array, file: Path, first: int, column: str, values: pa.Array, why: str) -> None:
    """Raise for the first row where `bad` holds.

    Raises:
        BadUse: naming file, row, column, the value and why.
    """
    position = pc.index(bad, True).as_py()
    if position >= 0:
        shown = repr(values[position].as_py())[:80]
        raise BadUse(f"{file}: row {first + position}, column {column}: found {shown}; {why}")
