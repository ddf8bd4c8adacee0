"""Union-find: which things belong together when some pairs do."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


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
