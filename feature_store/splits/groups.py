"""Groups of posts that must lie in one split: posts of the same author, media or copies of them, near-duplicate text or small context."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np
import pandas as pd
from datasketch import MinHash, MinHashLSH
from numpy.typing import NDArray

from upheld.common.params.data import Splits

# A thousand posts may hold a group of ten at 1 %; in smaller snapshots groups of ten are kept together as well.
MIN_GROUP_SIZE = 10
_VARIES = re.compile(r"(?P<link>(?:https?://|www\.)\S+)|(?P<mention>@\w+)|(?P<digits>\d+)")
_STAND_INS = {"link": " \N{LINK SYMBOL} ", "mention": " ", "digits": "0"}
# 20 bands of 5 rows propose a pair of similarity .7 with probability .97, .8 with .9996, .3 with .05 and .15 with .0015:
# 1 - (1 - s^5)^20, Leskovec, Rajaraman & Ullman, Mining of Massive Datasets, section 3.4.2.
NUM_BANDS, BAND_ROWS = 20, 5
# An estimate from 100 permutations has a standard error of at most .05; further below the threshold than three of these is no candidate.
MARGIN = 0.15
# A template sent ten thousand times must not be compared ten thousand times: this many members stand for their set in the index.
MAX_INDEXED = 16
NO_COPIES: Final[Mapping[str, str]] = MappingProxyType({})


class DisjointSets:
    """The numbers 0 … n − 1 in sets that only ever merge. The root of a set is its smallest number.

    Source: Tarjan (1975), JACM 22(2), with path halving; roots by number, not by size, so that the order of unions cannot show.
    """

    def __init__(self, num_members: int) -> None:
        self._parent = list(range(num_members))
        self._size = [1] * num_members

    def find(self, member: int) -> int:
        """Root of the set that `member` is in."""
        while self._parent[member] != member:
            self._parent[member] = self._parent[self._parent[member]]
            member = self._parent[member]
        return member

    def union(self, one: int, other: int) -> None:
        """Merge the sets of two members."""
        low, high = sorted((self.find(one), self.find(other)))
        if low != high:
            self._parent[high] = low
            self._size[low] += self._size[high]

    def size_of_union(self, members: Sequence[int]) -> int:
        """Members that one set would have if the sets of all `members` were merged."""
        return sum(self._size[root] for root in {self.find(member) for member in members})

    def labels(self) -> NDArray[np.int64]:
        """Root of every number, int64 (n,)."""
        return np.array([self.find(member) for member in range(len(self._parent))], dtype=np.int64)


class Grouped(NamedTuple):
    """Groups of posts, and the keys that were too common to group by."""

    posts: pd.DataFrame
    spanning: dict[str, int]


def group(posts: pd.DataFrame, params: Splits, copies: Mapping[str, str] = NO_COPIES) -> Grouped:
    """Join posts that share a key.

    A key value with more than `max_group_share` of the posts groups nothing: its posts may be in any split. Nor does one whose posts, with
    all that is joined already, would make up more than `max_linked_share`. The keys that give a label away most come first: text, media,
    author, context; within a key the order of its values.

    Args:
        posts: one row per post, any order: post_id, created_at, text (str, may be blank), image_digests, audio_digests and sound_digests
            (list of str), author_id, context_id (str or null).
        copies: digest of a picture or sound -> the name of the set of those that look or sound the same (`posts.copies`).

    Returns:
        posts: post_id, content_id and group_id, by post_id. Posts with the same content_id share text or media; content_id and group_id are
            the post_id of the earliest member.
        spanning: key name -> how many of its values grouped nothing.
    """
    posts = posts.sort_values(["created_at", "post_id"], ignore_index=True)  # the smallest number of a set is its earliest post
    sets, spanning = DisjointSets(len(posts)), {}
    largest = max(MIN_GROUP_SIZE, int(params.max_group_share * len(posts)))
    most_linked = max(largest, int(params.max_linked_share * len(posts)))
    names = posts["post_id"].to_numpy()
    forms = posts.set_index("post_id")["text"].map(normalised)
    contents = {  # values by the post's row number; a post may have several or none
        "exact_text": forms.where(forms != "").set_axis(posts.index),
        "near_text": posts["post_id"].map(near_duplicates(forms, params.min_text_similarity)),
        "image_digest": posts["image_digests"].explode(),
        "audio_digest": posts["audio_digests"].explode(),
        "near_image": posts["image_digests"].explode().map(copies),
        "near_sound": posts["sound_digests"].explode().map(copies),
    }
    for name, values in contents.items():
        spanning[name] = _join(sets, values, largest, most_linked)
    content = names[sets.labels()]
    for name in ("author_id", "context_id"):
        spanning[name] = _join(sets, posts[name], largest, most_linked)
    table = pd.DataFrame({"post_id": names, "content_id": content, "group_id": names[sets.labels()]})
    return Grouped(table.sort_values("post_id", ignore_index=True), spanning)


def _join(sets: DisjointSets, values: "pd.Series[str]", largest: int, most_linked: int) -> int:
    """Join the rows that share a value, unless they are too many; returns the number of values left alone."""
    num_spanning = 0
    shared = values[values.notna() & values.duplicated(keep=False)]
    for _, rows in shared.groupby(shared.to_numpy(), sort=True):
        members = np.unique(rows.index).tolist()
        if len(members) > largest or sets.size_of_union(members) > most_linked:
            num_spanning += 1
            continue
        for member in members[1:]:
            sets.union(members[0], member)
    return num_spanning


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
    """Name the set of near-duplicates that each text belongs to: the smallest id of its set; texts that are blank are left out.

    Equal texts are in one set. So are texts whose character trigrams have a Jaccard similarity of `min_similarity` or more, up to what
    MinHash misses (see NUM_BANDS), and so is what a chain of such pairs joins.

    Args:
        texts: strings as `normalised` gives them, indexed by unique ids (str); order does not matter.
        min_similarity: in (0, 1).
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
