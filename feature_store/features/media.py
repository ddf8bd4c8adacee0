"""What models read of the posts of a snapshot, by digest: pictures (media of the ledger, key frames of videos) and spectrograms.

The store is read as it is now, not at its pinned versions: a digest names its content for ever, and what was erased since must not be read.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from upheld.common.errors import FailedWork
from upheld.feature_store.contracts.tables import NUM_BANDS
from upheld.feature_store.contracts.workspace import FeaturePins
from upheld.feature_store.features.table import FeatureStore
from upheld.feature_store.ledger.ledger import Ledger

Spectrogram = NDArray[np.float16]  # (T, 64), log-mel
AT_ONCE = 16  # videos or sounds whose rows are in memory
Content = TypeVar("Content")  # bytes, or a spectrogram


def pictures_of(store: Path, posts: pd.DataFrame, pins: FeaturePins) -> Callable[[Sequence[str]], Iterator[tuple[str, bytes]]]:
    """Reader of pictures; the store is opened when the first is asked for.

    Args:
        store: folder with ledger and features.
        posts: of the snapshot: image_digests, num_frames, video_digests.
        pins: which extractors' versions are meant.

    Returns:
        digests -> (digest, bytes) of each that is there, in no particular order.
    """

    def read(names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """Media files first, then key frames."""
        wanted = set(names)
        for name, content in Ledger(store).media_bytes(names):
            wanted.discard(name)
            yield name, content
        if wanted and "keyframes" in pins.features:
            moving = posts[posts["num_frames"] > 0]
            frames = zip(moving["image_digests"], moving["num_frames"], strict=True)
            holds = [not wanted.isdisjoint(digests[-number:]) for digests, number in frames]
            videos = {name for digests in moving.loc[holds, "video_digests"] for name in digests}
            yield from _frames(FeatureStore(pins.location(store)), videos, wanted, pins)

    return read


def _frames(table: FeatureStore, videos: Iterable[str], wanted: Iterable[str], pins: FeaturePins) -> Iterator[tuple[str, bytes]]:
    """Key frames out of their videos' rows: (digest, JPEG) of each that is wanted, once."""
    waiting = set(wanted)
    for some in _some(videos):
        rows = table.read("keyframes", some, ["frames"], pins.features["keyframes"].extractor_version)
        for frames in rows["frames"].to_pylist():
            for frame in frames or []:
                if frame["digest"] in waiting:
                    waiting.discard(frame["digest"])
                    yield frame["digest"], frame["jpeg"]


def sounds_of(store: Path, pins: FeaturePins) -> Callable[[Sequence[str]], Iterator[tuple[str, Spectrogram]]]:
    """Reader of spectrograms, as `pictures_of`: digests -> (digest, spectrogram) of each that is there, in no particular order."""

    def read(names: Sequence[str]) -> Iterator[tuple[str, Spectrogram]]:
        """Spectrograms of the pinned version."""
        if "spectrogram" not in pins.features:
            return
        table = FeatureStore(pins.location(store))
        for some in _some(names):
            for row in table.read("spectrogram", some, ["log_mel"], pins.features["spectrogram"].extractor_version).to_pylist():
                if row["log_mel"] is not None:
                    yield row["digest"], spectrogram(row["log_mel"])

    return read


def spectrogram(log_mel: bytes) -> Spectrogram:
    """The array out of a row's bytes: float16, row-major, 64 bands a frame."""
    return np.frombuffer(log_mel, np.float16).reshape(-1, NUM_BANDS)


def _some(names: Iterable[str]) -> Iterator[list[str]]:
    """Names a few at a time, each once, in order."""
    ordered = sorted(set(names))
    return (ordered[start : start + AT_ONCE] for start in range(0, len(ordered), AT_ONCE))


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
