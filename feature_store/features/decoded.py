"""What trainers read: pictures and sounds decoded once into the store's shards, whichever run wanted them first."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from numpy.typing import NDArray

from upheld.common.errors import FailedWork
from upheld.common.progress import bars, reporter
from upheld.feature_store.features.shards import Shards


def filled(
    shards: Shards, kind: str, names: Iterable[str], decoded: Callable[[Sequence[str]], Iterable[tuple[str, NDArray[Any]]]]
) -> Shards:
    """Shards that hold all of `names`; those that no run has decoded yet are decoded now.

    Args:
        shards: where decoded arrays are kept.
        kind: `pictures` or `sounds`, for the bar and the error.
        names: digests wanted.
        decoded: gives (digest, array) of those asked for, one by one, in any order.

    Raises:
        FailedWork: one of them is not in the store.
    """
    wanted = shards.missing(names)
    if wanted:
        with bars() as shown:
            report = reporter(shown, f"decoding {kind}", len(wanted))

            def counted() -> Iterable[tuple[str, NDArray[Any]]]:
                for item in decoded(wanted):
                    yield item
                    report(1)

            shards.add(counted())
    lost = shards.missing(wanted)
    if lost:
        raise FailedWork(f"{kind[:-1]} {lost[0]}: not in the store (of {len(lost)} missing); take a new snapshot")
    return shards
