"""The scores contract (docs/architecture.md, Contracts): checked score rows from any file, under any column names."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from upheld.common.errors import BadUse
from upheld.evaluation.scores import files as score_files
from upheld.feature_store.contracts.tables import SCORES, SCORES_REQUIRED

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
    if name not in ("item_id", "split", "model_version"):
        pooled = pc.equal(filled.dictionary, "all").take(filled.indices)  # looks at each distinct value once
        refuse(pooled, file, first, name, filled, "the word 'all' is kept for pooled cells")
    return filled


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


REQUIRED = SCORES_REQUIRED
OPTIONAL = (*(name for name in SCORES.names if name not in REQUIRED), "synthetic", "model_version")
TRAINED_ON = ("train", "training", "fusion")


@dataclass(frozen=True)
class Columns:
    """What the contract's columns are called in a file: `renames` maps contract name -> file column, `constants` contract name -> text."""

    renames: dict[str, str] = field(default_factory=dict)
    constants: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """A score table that has been found and whose columns are known; rows are read by `batches`.

    `names` are the contract and group columns it offers, `sources` their file columns (a constant has none).
    """

    path: Path
    files: tuple[Path, ...]
    columns: Columns
    groups: tuple[str, ...]
    names: tuple[str, ...]


def parse_columns(text: str) -> Columns:
    """Read `--columns`: `score=my_col,category='x'`; a quoted value is a constant for every row.

    Raises:
        BadUse: a part is not name=value, or names a column twice.
    """
    renames: dict[str, str] = {}
    constants: dict[str, str] = {}
    parts = re.findall(r"""(?:'[^']*'|"[^"]*"|[^,'"])+""", text) if text.strip() else []
    for part in parts:
        name, separator, value = (piece.strip() for piece in part.partition("="))
        if not separator or not name or not value:
            raise BadUse(f"--columns {part.strip()}: expected name=column or name='constant'")
        if name in renames or name in constants:
            raise BadUse(f"--columns {part.strip()}: {name} is given twice")
        if value[0] in "'\"" and value[-1] == value[0] and len(value) > 1:
            constants[name] = value[1:-1]
        else:
            renames[name] = value
    return Columns(renames, constants)


def open_table(path: Path, columns: Columns | None = None, groups: Sequence[str] = ()) -> Table:
    """Find a score table and check that its columns are there; no row is read.

    Args:
        path: Parquet, CSV or JSONL file, or a folder of them.
        columns: other names and constants for contract columns.
        groups: further columns to keep, as strings.

    Raises:
        BadUse: no such file, an unreadable one, or a missing column (the message names file, column and what there is).
    """
    columns = columns or Columns()
    files = score_files.find(path)
    for file in files:
        there = score_files.column_names(file)
        wanted = [*REQUIRED, *groups, *columns.renames]
        for name in wanted:
            source = columns.renames.get(name, name)
            if name not in columns.constants and source not in there:
                raise BadUse(
                    f"{file}: no column {source!r} for {name}; it has {', '.join(there[:30])}; map one with --columns {name}=COLUMN"
                )
    extra = [name for name in OPTIONAL if columns.renames.get(name, name) in there or name in columns.constants]
    names = tuple(dict.fromkeys([*REQUIRED, *extra, *groups]))
    return Table(path, files, columns, tuple(groups), names)


def num_rows_by_split(table: Table) -> dict[str, int]:
    """Rows of each value of `split`; empty where the table has no such column.

    Raises:
        BadUse: a row belongs to a split that the model was trained on; the message names file and row.
    """
    counts: dict[str, int] = {}
    if "split" not in table.names:
        return counts
    for file, first, batch in named_batches(table, ("split",)):
        values = batch.column("split")
        trained = pc.is_in(pc.utf8_lower(values.cast(pa.string())), pa.array(TRAINED_ON))
        refuse(
            trained, file, first, "split", values, "a score that a model gave to its own training rows is no evidence; leave those rows out"
        )
        for item in pc.value_counts(values.cast(pa.string())).to_pylist():
            name = item["values"] or MISSING_GROUP
            counts[name] = counts.get(name, 0) + item["counts"]
    return counts


def choose_splits(counts: dict[str, int], wanted: str, other: str) -> tuple[str, ...] | None:
    """Which splits a command reads: the `wanted` one where it exists, else all but the `other`; None takes every row.

    Raises:
        BadUse: only rows of `other` are there.
    """
    if not counts or wanted in counts:
        return (wanted,) if counts else None
    rest = tuple(sorted(set(counts) - {other}))
    if not rest:
        raise BadUse(f"column split: expected rows of {wanted!r}, found only {other!r}")
    return rest


def batches(table: Table, names: Sequence[str], splits: tuple[str, ...] | None = None) -> Iterator[pa.RecordBatch]:
    """Checked rows in the contract's names and types.

    Args:
        names: columns to read; those that the table does not offer are left out.
        splits: keep only rows whose `split` is one of these; None keeps all.

    Yields:
        record batches: score float64 in [0, 1]; label float64 0, 1 or null; inclusion_prob float64 in [1e-6, 1], null only
        where there is no label; synthetic bool; everything else dictionary-encoded text without nulls (`und` for a
        missing language, "(missing)" for a missing group).

    Raises:
        BadUse: a value outside those ranges; the message names file, row (from 1) and column.
    """
    reading = tuple(dict.fromkeys([*(name for name in names if name in table.names), *(["split"] if splits else [])]))
    for file, first, raw in named_batches(table, reading):
        columns = {name: checked(name, raw.column(name), file, first) for name in reading}
        if {"label", "inclusion_prob"} <= columns.keys():
            unweighted = pc.and_(columns["label"].is_valid(), columns["inclusion_prob"].is_null())
            refuse(unweighted, file, first, "inclusion_prob", columns["inclusion_prob"], "a labelled row needs the probability of its draw")
        batch = pa.RecordBatch.from_pydict(columns)
        if splits:
            batch = batch.filter(pc.is_in(batch.column("split").cast(pa.string()), pa.array(splits)))
        if batch.num_rows:
            yield batch


def named_batches(table: Table, names: Sequence[str], plain: Sequence[str] = ()) -> Iterator[tuple[Path, int, pa.RecordBatch]]:
    """Rows under the contract's names; constants filled in, values unchecked.

    Args:
        names: columns to read.
        plain: those of them that are not worth a dictionary, as nearly every value differs.

    Yields:
        (file, number of the batch's first row from 1, batch).
    """
    sources = {name: table.columns.renames.get(name, name) for name in names if name not in table.columns.constants}
    wanted = tuple(dict.fromkeys(sources.values()))
    for file in table.files:
        first = 1
        for raw in score_files.batches(
            file, wanted or score_files.column_names(file)[:1], [sources[name] for name in plain if name in sources]
        ):
            columns = {
                name: raw.column(sources[name]) if name in sources else pa.repeat(pa.scalar(table.columns.constants[name]), raw.num_rows)
                for name in names
            }
            yield file, first, pa.RecordBatch.from_pydict(columns)
            first += raw.num_rows
