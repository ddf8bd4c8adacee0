"""Arrays decoded once for all runs: on disk by content digest, read one at a time, so that training's memory does not grow with its data.

`store/decoded/KIND/` holds shards: NAME.bin with arrays end to end, and NAME.json that says which and where. A shard is seen once its
index is there. All of it may be deleted at any time: the next run decodes again.
"""

import json
import os
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from upheld.common.errors import FailedWork
from upheld.common.files import replacing, write_json
from upheld.common.progress import bars, reporter
from upheld.feature_store.contracts import hashing

SHARD_BYTES = 64 << 20  # held in memory until a shard is written


@dataclass(frozen=True)
class _Place:
    file: Path
    offset: int
    shape: tuple[int, ...]


class Shards:
    """Arrays of one type by digest.

    Args:
        folder: where they lie; named after whatever an array depends on besides the content's digest.
        dtype: of all arrays.
    """

    def __init__(self, folder: Path, dtype: DTypeLike) -> None:
        self._folder = folder
        self._dtype: np.dtype[Any] = np.dtype(dtype)
        self._places: dict[str, _Place] = {}
        for index in sorted(folder.glob("*.json")):
            self._learn(index)

    def missing(self, names: Iterable[str]) -> list[str]:
        """Those of `names` that are not here, each once, sorted."""
        return sorted(set(names) - self._places.keys())

    def length(self, name: str) -> int:
        """Size of an array's first dimension, without reading it."""
        return self._places[name].shape[0]

    def __getitem__(self, name: str) -> NDArray[Any]:
        """The array of this digest, read from disk: a copy that the caller may change.

        Raises:
            FailedWork: the shard has been deleted or cut short.
        """
        place = self._places[name]
        size = prod(place.shape) * self._dtype.itemsize
        try:
            with place.file.open("rb", buffering=0) as file:  # not a memory map: its pages would count as ours, and a cut file kills
                content = bytearray(os.pread(file.fileno(), size, place.offset))
        except OSError as error:
            raise FailedWork(f"{place.file}: cannot be read ({error.strerror}); start the stage again, it decodes anew") from error
        if len(content) != size:
            raise FailedWork(f"{place.file}: cut short; delete the folder {self._folder}, the stage decodes anew")
        return np.frombuffer(content, self._dtype).reshape(place.shape)

    def add(self, arrays: Iterable[tuple[str, NDArray[Any]]]) -> None:
        """Write arrays, a shard at a time; a killed writer loses the shard that it was filling, nothing else.

        Args:
            arrays: (digest, array of at least one dimension); taken one by one.
        """
        waiting: list[tuple[str, NDArray[Any]]] = []
        num_bytes = 0
        for name, array in arrays:
            waiting.append((name, np.ascontiguousarray(array, self._dtype)))
            num_bytes += waiting[-1][1].nbytes
            if num_bytes >= SHARD_BYTES:
                self._write(waiting)
                waiting, num_bytes = [], 0
        if waiting:
            self._write(waiting)

    def _write(self, arrays: Sequence[tuple[str, NDArray[Any]]]) -> None:
        path = self._folder / f"{hashing.of_json([name for name, _ in arrays])[:32]}.bin"
        items, offset = [], 0
        with replacing(path) as partial, partial.open("wb") as file:
            for name, array in arrays:
                file.write(array.data)
                items.append([name, offset, *array.shape])
                offset += array.nbytes
        write_json(path.with_suffix(".json"), items)
        self._learn(path.with_suffix(".json"))

    def _learn(self, index: Path) -> None:
        for name, offset, *shape in _items(index):
            self._places[name] = _Place(index.with_suffix(".bin"), offset, tuple(shape))


def keep_only(decoded: Path, living: Collection[str]) -> int:
    """Delete every shard that holds something decoded from a content that is not among `living`.

    Args:
        decoded: the folder `decoded` of a store; need not exist.
        living: digests of all contents, key frames included, that may be kept.

    Returns:
        number of shards deleted; what else they held is decoded again when it is wanted.
    """
    kept = frozenset(living)
    found = [index for index in sorted(decoded.glob("*/*.json")) if not kept.issuperset(item[0] for item in _items(index))]
    for index in found:
        index.with_suffix(".bin").unlink(missing_ok=True)
        index.unlink()
    return len(found)


def _items(index: Path) -> list[list[Any]]:
    try:
        items: list[list[Any]] = json.loads(index.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FailedWork(f"{index}: not a readable index of decoded arrays ({error}); delete {index.parent}, it is decoded anew") from error
    return items


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
                """The arrays as they are decoded; each moves the bar."""
                for item in decoded(wanted):
                    yield item
                    report(1)

            shards.add(counted())
    lost = shards.missing(wanted)
    if lost:
        raise FailedWork(f"{kind[:-1]} {lost[0]}: not in the store (of {len(lost)} missing); take a new snapshot")
    return shards
