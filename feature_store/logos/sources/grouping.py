"""Photos that show the same, and the splits that such groups go to."""

from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from upheld.feature_store.contracts.hashing import uniform
from upheld.feature_store.logos.dataset.dataset import SPLITS
from upheld.feature_store.splits import assignment
from upheld.feature_store.splits.disjoint_sets import DisjointSets

_BLOCK_ROWS: Final = 1024  # hashes compared with all others at once: memory stays bounded


def groups(images: pd.DataFrame, max_distance: int) -> "pd.Series[str]":
    """Name the group of near-duplicates that each photo belongs to.

    Args:
        images: one row a photo, any order: digest, pdq (64 hexadecimal digits or null).
        max_distance: hashes that differ in this many of their 256 bits, or fewer, are of near-duplicates; so is what a chain joins.

    Returns:
        smallest digest of the group, by the index of `images`. A photo without a hash is a group of its own.
    """
    rows = images.sort_values("digest")
    hashed = np.flatnonzero(rows["pdq"].notna())
    sets = DisjointSets(len(rows))
    for one, other in _pairs(_words(rows["pdq"].iloc[hashed].tolist()), max_distance):
        sets.union(int(hashed[one]), int(hashed[other]))
    # digests ascend, so the smallest position of a set holds its smallest digest
    return pd.Series(rows["digest"].to_numpy()[sets.labels()], index=rows.index, name="group_id").reindex(images.index)


def _words(hashes: list[str]) -> NDArray[np.uint64]:
    return np.frombuffer(bytes.fromhex("".join(hashes)), dtype=np.uint64).reshape(len(hashes), 4)


def _pairs(words: NDArray[np.uint64], max_distance: int) -> list[tuple[int, int]]:
    """Positions of near-duplicate hashes, (n, 4) words of 64 bits, each pair once."""
    found: list[tuple[int, int]] = []
    for start in range(0, len(words), _BLOCK_ROWS):
        block = words[start : start + _BLOCK_ROWS]
        differing = np.zeros((len(block), len(words) - start), dtype=np.uint16)
        for word in range(4):
            differing += np.bitwise_count(block[:, None, word] ^ words[None, start:, word])
        one, other = np.nonzero(differing <= max_distance)
        later = one < other
        found += zip((one[later] + start).tolist(), (other[later] + start).tolist(), strict=True)
    return found


def held_out_first(images: pd.DataFrame) -> "pd.Series[str]":
    """Split of each photo once its whole group is in the most held-out split that any of it was given.

    So what a dataset holds out stays complete, and comparable with what others measured on it; training loses the copies.

    Args:
        images: group_id, split (train, val or test).
    """
    rank = images["split"].map({split: place for place, split in enumerate(SPLITS)})
    return rank.groupby(images["group_id"]).transform("max").map(dict(enumerate(SPLITS)))


def spread(images: pd.DataFrame, boxes: pd.DataFrame, shares: dict[str, float], key: str) -> "pd.Series[str]":
    """Spread groups over the splits, seeded; of each brand every split gets its share, as nearly as whole groups allow.

    Args:
        images: digest, group_id.
        boxes: digest, brand. A group belongs to the rarest of its brands; photos without logos are a stratum too.
        shares: of the splits val and test, together below 1.
        key: other keys give independent splits.

    Returns:
        split by the index of `images`.
    """
    num_photos = boxes.drop_duplicates(["digest", "brand"])["brand"].value_counts()
    rarest = boxes.assign(num=boxes["brand"].map(num_photos)).sort_values(["num", "brand"]).drop_duplicates("digest")
    stratum = images["digest"].map(rarest.set_index("digest")["brand"]).fillna("")
    rows = pd.DataFrame({"group_id": images["group_id"], "stratum": stratum, "num": stratum.map(num_photos).fillna(np.inf)})
    sets = rows.sort_values(["num", "stratum"]).groupby("group_id").agg(stratum=("stratum", "first"), size=("stratum", "size"))
    sets["rank"] = uniform(f"{key}/rank", sets.index)
    return images["group_id"].map(assignment.spread(sets, {name: shares[name] for name in ("test", "val")}, key))


def by_hash(images: pd.DataFrame, shares: dict[str, float], key: str) -> "pd.Series[str]":
    """Split of each photo by a hash of its group alone, so that it stays where it is while other photos come and go.

    Args:
        images: group_id.
        shares: of the splits val and test, together below 1; they hold on average.
        key: other keys give independent splits.

    Returns:
        split by the index of `images`.
    """
    place = uniform(f"{key}/stay", images["group_id"])
    split = np.select([place < shares["test"], place < shares["test"] + shares["val"]], ["test", "val"], "train")
    return pd.Series(split, index=images.index, dtype=object)
