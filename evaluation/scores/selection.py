"""From checked score rows to cubes: in chunks of bounded memory, one cube for languages and one for each group column."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from upheld.common.errors import BadUse
from upheld.evaluation.cube import build, cube
from upheld.evaluation.scores import table as scores
from upheld.feature_store.contracts import hashing
from upheld.feature_store.decisions import calibration as calibration_map

CHUNK_ROWS, MAX_CUBES = 1 << 22, 4
LABELLED = ["item_id", "category", "language", "score", "label", "inclusion_prob"]
CUBED = ("category", "language", "score", "label", "inclusion_prob", "zone")


@dataclass(frozen=True)
class Facts:
    """What was read: rows by use, labelled rows, periods, digest of the files, whether any row is synthetic."""

    path: str
    digest: str
    num_rows: int
    num_labelled: int
    splits_used: tuple[str, ...]
    splits_left_out: dict[str, int]
    periods: tuple[str, ...]
    synthetic: bool


@dataclass(frozen=True)
class Selection:
    """A score table and the rows of it that a command reads."""

    table: scores.Table
    splits: tuple[str, ...] | None
    left_out: dict[str, int]


def select(path: Path, columns: scores.Columns, groups: Sequence[str], *, wanted: str, other: str) -> Selection:
    """Open a table and choose its rows: those of split `wanted` where it has such, else all but those of `other`.

    Raises:
        BadUse: a group column is one that is counted in any case, or no text; see also `scores.open_table`, `scores.num_rows_by_split`,
            `scores.choose_splits`, `refuse_duplicates`.
    """
    for group in groups:
        if group in CUBED or {"item_id", "score", "label", "inclusion_prob"} & set(group.split("*")):
            raise BadUse(f"--group {group}: expected a column that divides the posts, such as region; this one has a meaning of its own")
    plain = dict.fromkeys(part for group in groups for part in group.split("*") if part not in (*scores.REQUIRED, "split"))
    table = scores.open_table(path, columns, tuple(plain))
    counts = scores.num_rows_by_split(table)
    splits = scores.choose_splits(counts, wanted, other)
    refuse_duplicates(table, splits)
    return Selection(table, splits, {name: num for name, num in counts.items() if splits is not None and name not in splits})


def chunks(selection: Selection, names: Sequence[str]) -> Iterator[pa.Table]:
    """Checked rows in tables of about CHUNK_ROWS rows."""
    held: list[pa.RecordBatch] = []
    for batch in scores.batches(selection.table, names, selection.splits):
        held.append(batch)
        if sum(part.num_rows for part in held) >= CHUNK_ROWS:
            yield _whole(held)
            held = []
    if held:
        yield _whole(held)


def labelled(selection: Selection, further: Sequence[str] = ()) -> pd.DataFrame:
    """Every labelled row: item_id, category, language (str), score, label, inclusion_prob (float64; 1 where the table has none), and those
    `further` columns that the table has."""
    names = [*LABELLED, *(name for name in further if name in selection.table.names)]
    parts = [chunk.filter(chunk["label"].is_valid()).to_pandas() for chunk in chunks(selection, names)]
    rows = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=names)
    rows = rows.assign(inclusion_prob=rows.inclusion_prob if "inclusion_prob" in rows else 1.0)
    return rows[names]


def listable(selection: Selection, calibration: Mapping[str, Any] | None) -> pd.DataFrame:
    """Labelled rows with their calibrated probability `prob` and the group columns of the selection, to pick examples from."""
    names = [*LABELLED, *selection.table.groups]
    parts = [chunk.filter(chunk["label"].is_valid()).to_pandas() for chunk in chunks(selection, names)]
    rows = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=names)
    return rows.assign(prob=calibrated(rows, calibration))


def build_cubes(
    selection: Selection,
    groups: Sequence[str],
    calibration: Mapping[str, Any] | None,
    frame_min_inclusion_prob: Mapping[Any, float],
    hidden: frozenset[str] = frozenset(),
) -> tuple[dict[str | None, cube.Cube], Facts]:
    """Count every row.

    Args:
        groups: group columns; `a*b` crosses two.
        calibration: content of calibration.json, or None for scores as they are.
        frame_min_inclusion_prob: zone -> smallest probability of its draw, for rows that carry none.
        hidden: item ids whose labels are treated as unknown.

    Returns:
        {None: cube by language, group: cube by that group}, and what was read.

    Raises:
        BadUse: a row breaks the contract, or there is none.
    """
    parts: dict[str | None, list[cube.Cube]] = {name: [] for name in (None, *groups)}
    wanted = [*CUBED, "period", "synthetic", *selection.table.groups, *(["item_id"] if hidden else [])]
    num_rows, num_labelled, synthetic = 0, 0, False
    periods: set[str] = set()
    hidden_ids = pa.array(sorted(hidden), pa.string())
    for chunk in chunks(selection, wanted):
        num_rows, num_labelled = num_rows + chunk.num_rows, num_labelled + chunk.num_rows - chunk["label"].null_count
        periods |= set(pc.unique(chunk["period"]).to_pylist()) if "period" in chunk.column_names else set()
        synthetic = synthetic or ("synthetic" in chunk.column_names and bool(pc.any(chunk["synthetic"]).as_py()))
        counted = chunk
        if hidden:
            labels = pc.if_else(pc.is_in(_plain(chunk["item_id"]), hidden_ids), pa.scalar(None, pa.float64()), chunk["label"])
            counted = chunk.set_column(chunk.column_names.index("label"), "label", labels)
        for group, cubes in parts.items():
            table = counted
            if group and "*" in group:
                crossed = pc.binary_join_element_wise(*(_plain(chunk[part]) for part in group.split("*")), " * ")
                table = counted.append_column(group, crossed)
            cubes.append(build.build(table, group_column=group, calibration=calibration, frame_min_inclusion_prob=frame_min_inclusion_prob))
            if len(cubes) == MAX_CUBES:  # memory is that of a few cubes, however long the table
                cubes[:] = [cube.merge(cubes)]
    if not num_rows:
        raise BadUse(f"{selection.table.path}: no row to read; expected scores of at least one item")
    facts = Facts(
        path=selection.table.path.name,
        digest=hashing.of_json([hashing.of_file(file) for file in selection.table.files]),
        num_rows=num_rows,
        num_labelled=num_labelled,
        splits_used=selection.splits or (),
        splits_left_out=selection.left_out,
        periods=tuple(sorted(periods)),
        synthetic=synthetic,
    )
    return {name: cube.merge(cubes) for name, cubes in parts.items()}, facts


def calibrated(rows: pd.DataFrame, calibration: Mapping[str, Any] | None) -> pd.Series:
    """Calibrated probability of each row, float64, in the order of `rows`; the score itself where there is no calibration."""
    if calibration is None:
        return rows.score.astype(float)
    prob = pd.Series(np.nan, index=rows.index)
    for category, part in rows.groupby("category", observed=True):
        prob[part.index] = calibration_map.apply(calibration["categories"].get(category), part.score.to_numpy(), part.language.to_numpy())
    return prob


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column


def _whole(batches: list[pa.RecordBatch]) -> pa.Table:
    return pa.Table.from_batches(batches).unify_dictionaries()


SPREAD = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio: an odd number that moves the bits of a hash to all places
MIX, HALF, WORD_BYTES = np.uint64(0xD6E8FEB86659FD93), np.uint64(32), 8  # Source: degski64, in Wellons, hash-prospector, 2018
LONG_BYTES = 256  # longer texts, which few tables have, are hashed one by one
Hashes = NDArray[np.uint64]


def refuse_duplicates(table: scores.Table, splits: tuple[str, ...] | None) -> None:
    """Refuse a table in which an item comes twice in a category.

    One 64-bit hash a row is kept, 8 bytes, and sorted; only where two are equal are rows read again and their keys compared, so that two
    keys of one hash are no error.

    Args:
        splits: only rows whose `split` is one of these; None takes all.

    Raises:
        BadUse: naming file, row and key of the second row, and where the first is.
    """
    hashes: Hashes = np.empty(0, np.uint64)
    for _, _, _, fresh in _hashed(table, splits):
        start = len(hashes)
        hashes.resize(start + len(fresh), refcheck=False)  # grows in place; a list of parts would need the memory twice
        hashes[start:] = fresh
    hashes.sort()
    repeated = np.unique(hashes[1:][hashes[1:] == hashes[:-1]])
    if not len(repeated):
        return
    seen: dict[tuple[str, str], tuple[Path, int]] = {}
    for file, rows, batch, fresh in _hashed(table, splits):
        for place in np.flatnonzero(np.isin(fresh, repeated)):
            item, category = (batch[name][int(place)].as_py() for name in ("item_id", "category"))
            key, row = (str(item), str(category)), int(rows[place])
            if item is None or category is None:
                continue  # refused as missing where rows are checked
            if key in seen:
                before, first = seen[key]
                also = f"row {first}" if before == file else f"{before}, row {first}"
                raise BadUse(f"{file}: row {row}: item_id {key[0]!r}, category {key[1]!r} is in {also} already; keep one row of each")
            seen[key] = (file, row)


def _hashed(table: scores.Table, splits: tuple[str, ...] | None) -> Iterator[tuple[Path, NDArray[np.int64], pa.RecordBatch, Hashes]]:
    """(file, row numbers from 1, rows, hash of each row's key) of the rows that are read."""
    names = ("item_id", "category", *(("split",) if splits else ()))
    for file, first, batch in scores.named_batches(table, names, plain=("item_id",)):
        kept = pc.is_in(batch["split"].cast(pa.string()), pa.array(splits)) if splits else pa.repeat(True, batch.num_rows)
        own = batch.filter(kept)
        rows = first + np.flatnonzero(kept.to_numpy(zero_copy_only=False))
        yield file, rows, own, _hash(own["item_id"]) + SPREAD * _hash(own["category"])


def _hash(values: pa.Array) -> Hashes:
    """Hash of each value's text, eight bytes of every text at a time; of dictionary-encoded ones each distinct value is hashed once."""
    if pa.types.is_dictionary(values.type):
        of_each: Hashes = _hash(values.dictionary)[values.indices.fill_null(0).to_numpy(zero_copy_only=False)]
        return of_each
    texts = values.cast(pa.large_binary() if pa.types.is_binary(values.type) else pa.large_string()).fill_null("")
    _, offsets, content = texts.buffers()
    ends = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    starts, lengths = ends[:-1], np.diff(ends)
    data = np.frombuffer(content or b"", np.uint8)
    words = np.lib.stride_tricks.sliding_window_view(np.append(data, np.zeros(WORD_BYTES, np.uint8)), WORD_BYTES)
    hashes = lengths.astype(np.uint64) * SPREAD
    hashed = np.flatnonzero((lengths > 0) & (lengths <= LONG_BYTES))
    for done in range(0, LONG_BYTES, WORD_BYTES):
        hashed = hashed[lengths[hashed] > done]
        if not len(hashed):
            break
        spare = np.uint64(8) * (WORD_BYTES - np.minimum(lengths[hashed] - done, WORD_BYTES)).astype(np.uint64)
        word = words[starts[hashed] + done].view("<u8")[:, 0] << spare  # what follows the text leaves the word
        mixed = (hashes[hashed] ^ word) * MIX
        hashes[hashed] = (mixed ^ (mixed >> HALF)) * SPREAD
    for row in np.flatnonzero(lengths > LONG_BYTES):
        hashes[row] = int.from_bytes(blake2b(data[starts[row] : ends[row + 1]].tobytes(), digest_size=WORD_BYTES).digest(), "little")
    return hashes
