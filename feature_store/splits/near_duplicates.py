"""Texts that say the same thing in almost the same letters, in any script: MinHash over character trigrams."""

import re
import unicodedata
from functools import cache

import numpy as np
import pandas as pd
from datasketch import MinHash, MinHashLSH
from numpy.typing import NDArray

from upheld.feature_store.splits.disjoint_sets import DisjointSets

_VARIES = re.compile(r"(?P<link>(?:https?://|www\.)\S+)|(?P<mention>@\w+)|(?P<digits>\d+)")
_STAND_INS = {"link": " \N{LINK SYMBOL} ", "mention": " ", "digits": "0"}
# 20 bands of 5 rows propose a pair of similarity .7 with probability .97, .8 with .9996, .3 with .05 and .15 with .0015:
# 1 - (1 - s^5)^20, Leskovec, Rajaraman & Ullman, Mining of Massive Datasets, section 3.4.2.
NUM_BANDS, BAND_ROWS = 20, 5
# An estimate from 100 permutations has a standard error of at most .05; further below the threshold than three of these is no candidate.
MARGIN = 0.15
# A template sent ten thousand times must not be compared ten thousand times: this many members stand for their set in the index.
MAX_INDEXED = 16


def normalised(text: str) -> str:
    """Text without what spam varies: case, width, punctuation, spaces, invisible characters, digits, links and names of users.

    Returns:
        letters, marks and symbols (emoji) in single-spaced words, digits as 0; the bare text where nothing would be left of it.
    """
    plain = unicodedata.normalize("NFKC", text).casefold()
    masked = _VARIES.sub(lambda match: _STAND_INS[str(match.lastgroup)], plain)
    # not \W: to Python's re the vowel signs of Hindi and Thai are no word characters
    kept = "".join(_kept(character) for character in masked)
    return " ".join(kept.split()) or " ".join(plain.split())


def near_duplicates(texts: "pd.Series[str]", min_similarity: float) -> "pd.Series[str]":
    """Name the set of near-duplicates that each text belongs to.

    Equal texts are in one set. So are texts whose character trigrams have a Jaccard similarity of `min_similarity` or more, up to what
    MinHash misses (see NUM_BANDS), and so is what a chain of such pairs joins.

    Args:
        texts: strings as `normalised` gives them, indexed by unique ids (str); order does not matter.
        min_similarity: in (0, 1).

    Returns:
        for each id of a text that is not blank, in ascending order, the smallest id of its set.
    """
    texts = texts[texts != ""].sort_index()
    distinct = texts.drop_duplicates()
    sets = _similar(distinct.tolist(), min_similarity)
    # ids ascend, so the smallest position of a set holds its smallest id
    names = pd.Series(distinct.index.to_numpy()[sets.labels()], index=distinct.to_numpy(), dtype=object)
    return texts.map(names)


def _similar(texts: list[str], min_similarity: float) -> DisjointSets:
    """Positions of `texts` in sets joined by pairs of at least `min_similarity`."""
    num_perm = NUM_BANDS * BAND_ROWS
    sets, index = DisjointSets(len(texts)), MinHashLSH(num_perm=num_perm, params=(NUM_BANDS, BAND_ROWS))
    trigrams = [_trigrams(text) for text in texts]
    signatures = np.zeros((len(texts), num_perm), dtype=np.uint64)
    num_indexed = np.zeros(len(texts), dtype=int)
    empty = MinHash(num_perm=num_perm, hashfunc=int, scheme="affine64")
    for position in np.flatnonzero([len(grams) for grams in trigrams]).tolist():
        sketch = empty.copy()
        sketch.update_batch(trigrams[position].tolist())
        signatures[position] = sketch.hashvalues
        found = np.array(sorted(index.query(sketch)), dtype=int)
        estimates = (signatures[found] == signatures[position]).mean(axis=1)
        for other in found[estimates >= min_similarity - MARGIN].tolist():
            if sets.find(other) != sets.find(position) and _jaccard(trigrams[position], trigrams[other]) >= min_similarity:
                sets.union(position, other)
        num_indexed[sets.find(position)] += 1
        if num_indexed[sets.find(position)] <= MAX_INDEXED:
            index.insert(position, sketch)
    return sets


@cache
def _kept(character: str) -> str:
    """The character; a space for punctuation, separators and control characters; nothing for invisible ones."""
    category = unicodedata.category(character)
    if category == "Cf":
        return ""
    return " " if category[0] in "PZC" else character


def _trigrams(text: str) -> NDArray[np.uint64]:
    """Distinct character trigrams, ascending; a code point has 21 bits, so three of them are told apart exactly in 63."""
    points = np.frombuffer(text.encode("utf-32-le"), dtype="<u4").astype(np.uint64)
    return np.unique(points[:-2] << np.uint64(42) | points[1:-1] << np.uint64(21) | points[2:])


def _jaccard(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> float:
    shared = len(np.intersect1d(one, other, assume_unique=True))
    return shared / (len(one) + len(other) - shared)
