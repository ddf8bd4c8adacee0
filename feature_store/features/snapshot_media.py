"""Pictures and sounds of a snapshot's posts, where one that has left the store ends the work."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from upheld.common.errors import FailedWork

Content = TypeVar("Content")  # bytes, or a spectrogram


def whole(
    kind: str, store: Path, read: Callable[[Sequence[str]], Iterable[tuple[str, Content]]]
) -> Callable[[Sequence[str]], dict[str, Content]]:
    """Make a reader complain of what is not there.

    Args:
        kind: what it reads, `image` or `sound`.
        store: folder that it reads from.
        read: digests -> (digest, content) of each that is there.

    Returns:
        digests -> content of each; raises FailedWork naming a digest that the store does not hold.
    """

    def fetch(names: Sequence[str]) -> dict[str, Content]:
        """All of them, or an error."""
        found = dict(read(names))
        missing = sorted(set(names) - found.keys())
        if missing:
            raise FailedWork(f"{store}: {kind} {missing[0]} of the snapshot is gone; start a new run from the ledger as it is now")
        return found

    return fetch
