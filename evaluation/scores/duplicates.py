"""An item counts once in each category: rows that come twice are refused, or every interval would be too narrow."""

from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from upheld.common.errors import BadUse
from upheld.evaluation.scores.table import Table, named_batches

SPREAD = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio: an odd number that moves the bits of a hash to all places
MIX, HALF, WORD_BYTES = np.uint64(0xD6E8FEB86659FD93), np.uint64(32), 8  # Source: degski64, in Wellons, hash-prospector, 2018
LONG_BYTES = 256  # longer texts, which few tables have, are hashed one by one
Hashes = NDArray[np.uint64]


def refuse(table: Table, splits: tuple[str, ...] | None) -> None:
    """Refuse a table in which an item comes twice in a category.

    One 64-bit hash a row is kept, 8 bytes, and sorted; only where two are equal are rows read again and their keys compared, so that two
    keys of one hash are no error.

    Args:
        table: an opened score table.
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
    if len(repeated):
        _name_first(table, splits, repeated)


def _hashed(table: Table, splits: tuple[str, ...] | None) -> Iterator[tuple[Path, NDArray[np.int64], pa.RecordBatch, Hashes]]:
    """(file, row numbers from 1, rows, hash of each row's key) of the rows that are read."""
    names = ("item_id", "category", *(("split",) if splits else ()))
    for file, first, batch in named_batches(table, names, plain=("item_id",)):
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


def _name_first(table: Table, splits: tuple[str, ...] | None, repeated: Hashes) -> None:
    seen: dict[tuple[str, str], tuple[Path, int]] = {}
    for file, rows, batch, hashes in _hashed(table, splits):
        for place in np.flatnonzero(np.isin(hashes, repeated)):
            item, category = (batch[name][int(place)].as_py() for name in ("item_id", "category"))
            key, row = (str(item), str(category)), int(rows[place])
            if item is None or category is None:
                continue  # refused as missing where rows are checked
            if key in seen:
                before, first = seen[key]
                also = f"row {first}" if before == file else f"{before}, row {first}"
                raise BadUse(f"{file}: row {row}: item_id {key[0]!r}, category {key[1]!r} is in {also} already; keep one row of each")
            seen[key] = (file, row)
