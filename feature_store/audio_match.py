"""Whether two sounds are the same recording, by their fingerprints: re-uploads, cut or encoded anew."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from feature_store.extractors.audio_fingerprint import HOP
from feature_store.extractors.audio_track import RATE_HZ
from feature_store.params_media import AudioFingerprint

_COMMON = 64  # a landmark that occurs more often in a sound is a beep or hum that tells nothing, and makes too many pairs


class Fingerprint(NamedTuple):
    """Landmarks of a sound: uint32 hashes, and int32 times in hops, as the extractor `audio_fingerprint` gives them."""

    hashes: NDArray[np.uint32]
    times: NDArray[np.int32]


class SoundMatch(NamedTuple):
    """Landmarks that two sounds share at one shift, their share of the shorter one's, and where the second lies in the first."""

    num_aligned: int
    share: float
    offset_s: float


NO_MATCH = SoundMatch(0, 0.0, 0.0)


def compare(first: Fingerprint, second: Fingerprint) -> SoundMatch:
    """Find the shift in time at which two sounds have most landmarks in common.

    Returns:
        the number in line, give or take one hop; share in [0, 1]; offset in seconds, negative where the second begins earlier.
        No landmark in common, or in either sound: zeros.
    """
    first, second = _telling(first), _telling(second)
    order = np.argsort(second.hashes, kind="stable")
    hashes, times = second.hashes[order], second.times[order]
    lows, highs = (np.searchsorted(hashes, first.hashes, side) for side in ("left", "right"))
    shifts = [when - times[low:high] for when, low, high in zip(first.times, lows, highs, strict=True)]
    if not shifts or not len(together := np.concatenate(shifts)):
        return NO_MATCH
    counts = np.bincount(together - together.min())
    in_line = np.convolve(counts, [1, 1, 1], mode="same")  # a cut rarely falls on a hop
    best = int(in_line.argmax())
    num_aligned = min(int(in_line[best]), len(first.hashes), len(second.hashes))
    share = num_aligned / min(len(first.hashes), len(second.hashes))
    return SoundMatch(num_aligned, share, float(best + together.min()) * HOP / RATE_HZ)


def is_same(match: SoundMatch, settings: AudioFingerprint) -> bool:
    """Whether a match is a re-upload: enough landmarks in line, in number and in share."""
    return match.num_aligned >= settings.min_aligned and match.share >= settings.thr_share


def _telling(sound: Fingerprint) -> Fingerprint:
    """A sound without the landmarks that it is full of."""
    _, place, counts = np.unique(sound.hashes, return_inverse=True, return_counts=True)
    kept = counts[place] <= _COMMON
    return Fingerprint(sound.hashes[kept], sound.times[kept])
