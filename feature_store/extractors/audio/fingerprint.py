"""Fingerprint of a sound: pairs of spectral peaks ("landmarks"), which survive gain, compression and cutting;
and whether two sounds are the same recording, uploaded again, cut or encoded anew.

Source: Wang (2003), An industrial-strength audio search algorithm, ISMIR.
"""

from typing import Any, ClassVar, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from upheld.common.params import extractors as sections
from upheld.feature_store.contracts import hashing
from upheld.feature_store.decoding.audio import RATE_HZ, as_float, read_samples
from upheld.feature_store.decoding.contract import Arrays, Refused
from upheld.feature_store.extractors.audio.spectrogram import power_spectrum
from upheld.feature_store.extractors.contract import Extractor, Kind

HOP = 256  # samples: 16 ms, the unit of `times`
_WINDOW = 1024  # samples: bins of 15.6 Hz
_LOW_BIN, _HIGH_BIN = 10, 256  # 156 Hz to 4 kHz: what codecs for speech keep
_PEAK_SIZE = (9, 15)  # a peak is the highest of so many frames x bins around it
_QUIET = 2e-8  # power below which a peak is rounding of 16-bit samples
_MAX_STEP = 48  # frames from a peak to its partner, at most
_MAX_LEAP = 48  # bins between them, at most
_COMMON = 64  # a landmark that occurs more often in a sound is a beep or hum that tells nothing, and makes too many pairs


class AudioFingerprint(Extractor):
    """`hashes` name pairs of peaks (bin, bin, frames between), `times` the frame of the first; silence has none."""

    name: ClassVar[str] = "audio_fingerprint"
    kind: ClassVar[Kind] = "audio"
    columns: ClassVar[pa.Schema] = pa.schema([("hashes", pa.list_(pa.uint32())), ("times", pa.list_(pa.int32()))])

    @property
    def version(self) -> str:
        """Number of the code's version, digest of the params that shape the landmarks."""
        settings = self.params.audio_fingerprint
        return "1-" + hashing.of_json([settings.peaks_per_s, settings.fan_out, self.params.audio_bounds.model_dump()])[:12]

    def decode(self, content: bytes) -> Arrays:
        """`samples`, int16 at 16 kHz. Raises as `read_samples`."""
        return {"samples": read_samples(content, self.params.audio_bounds)}

    def extract_one(self, arrays: Arrays) -> dict[str, Any] | Refused:
        """The sound's landmarks."""
        hashes, times = landmarks(arrays["samples"], self.params.audio_fingerprint.peaks_per_s, self.params.audio_fingerprint.fan_out)
        return {"hashes": hashes.tolist(), "times": times.tolist()}


def landmarks(samples: NDArray[np.int16], peaks_per_s: int, fan_out: int) -> tuple[NDArray[np.uint32], NDArray[np.int32]]:
    """Pair each spectral peak with the next few that are near it.

    Args:
        samples: int16 (n,) at 16 kHz.
        peaks_per_s: the strongest of every second are used.
        fan_out: partners of a peak, at most.

    Returns:
        (hashes uint32, times int32 in hops of 16 ms), in order of time.
    """
    power = power_spectrum(as_float(samples), _WINDOW, HOP)[:, _LOW_BIN:_HIGH_BIN]
    times, bins = np.nonzero((power == maximum_filter(power, size=_PEAK_SIZE)) & (power > _QUIET))
    second = times * HOP // RATE_HZ
    order = np.lexsort((-power[times, bins], second))
    rank = np.arange(len(order)) - np.searchsorted(second[order], second[order])
    kept = np.sort(order[rank < peaks_per_s])  # the strongest of every second, in order of time
    times, bins = times[kept], bins[kept]
    num_partners = np.zeros(len(times), np.int64)
    hashes, anchors = [], []
    for step in range(1, len(times)):
        gap, leap = times[step:] - times[:-step], bins[step:] - bins[:-step]
        if gap.min() > _MAX_STEP:
            break
        paired = np.flatnonzero((gap > 0) & (gap <= _MAX_STEP) & (np.abs(leap) <= _MAX_LEAP) & (num_partners[:-step] < fan_out))
        num_partners[paired] += 1
        hashes.append(bins[paired] << 16 | bins[paired + step] << 6 | gap[paired])
        anchors.append(times[paired])
    if not hashes:
        return np.empty(0, np.uint32), np.empty(0, np.int32)
    together = np.array([np.concatenate(anchors), np.concatenate(hashes)])
    together = together[:, np.lexsort(together[::-1])]
    return together[1].astype(np.uint32), together[0].astype(np.int32)


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


def is_same(match: SoundMatch, settings: sections.AudioFingerprint) -> bool:
    """Whether a match is a re-upload: enough landmarks in line, in number and in share."""
    return match.num_aligned >= settings.min_aligned and match.share >= settings.thr_share


def _telling(sound: Fingerprint) -> Fingerprint:
    """A sound without the landmarks that it is full of."""
    _, place, counts = np.unique(sound.hashes, return_inverse=True, return_counts=True)
    kept = counts[place] <= _COMMON
    return Fingerprint(sound.hashes[kept], sound.times[kept])
