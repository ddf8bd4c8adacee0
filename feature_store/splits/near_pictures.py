"""Pictures that look the same, by their perceptual hashes: resized, encoded anew, marked or a little cropped."""

from typing import Final

import numpy as np
import pandas as pd

from upheld.feature_store.splits.groups import DisjointSets

_BLOCK_ROWS: Final = 1024  # hashes compared with all others at once: memory stays bounded


def near_pictures(images: pd.DataFrame, max_distance: int) -> "pd.Series[str]":
    """Name the group of near-duplicates that each picture belongs to.

    Args:
        images: one row a picture, any order: digest, pdq (64 hexadecimal digits or null).
        max_distance: hashes that differ in this many of their 256 bits, or fewer, are of near-duplicates; so is what a chain joins.

    Returns:
        smallest digest of the group (`group_id`), by the index of `images`. A picture without a hash is a group of its own.
    """
    rows = images.sort_values("digest")
    hashed = np.flatnonzero(rows["pdq"].notna())
    sets = DisjointSets(len(rows))
    words = np.frombuffer(bytes.fromhex("".join(rows["pdq"].iloc[hashed])), dtype=np.uint64).reshape(-1, 4)
    for start in range(0, len(words), _BLOCK_ROWS):
        block = words[start : start + _BLOCK_ROWS]
        differing = np.zeros((len(block), len(words) - start), dtype=np.uint16)
        for word in range(4):
            differing += np.bitwise_count(block[:, None, word] ^ words[None, start:, word])
        one, other = np.nonzero(differing <= max_distance)
        later = one < other  # each pair once
        for first, second in zip(hashed[start + one[later]].tolist(), hashed[start + other[later]].tolist(), strict=True):
            sets.union(first, second)
    # digests ascend, so the smallest position of a set holds its smallest digest
    return pd.Series(rows["digest"].to_numpy()[sets.labels()], index=rows.index, name="group_id").reindex(images.index)
