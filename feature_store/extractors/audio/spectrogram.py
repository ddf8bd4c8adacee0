"""Log-mel spectrogram and cepstral statistics of a sound's first minute, which the audio classifier reads, and how they are computed."""

from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.lib.stride_tricks import sliding_window_view
from scipy.fft import dct, next_fast_len
from scipy.signal.windows import hann

from upheld.common.arrays import Floats32
from upheld.feature_store.contracts import hashing
from upheld.feature_store.contracts.tables import NUM_BANDS
from upheld.feature_store.decoding.audio import RATE_HZ, as_float, read_samples
from upheld.feature_store.decoding.contract import Arrays, Refused
from upheld.feature_store.extractors.contract import Extractor, Kind

NUM_COEFFICIENTS = 20

_FLOOR = 1e-6  # added to the power in a band; silence is ln(1e-6) = -13.8
_LOW_HZ = 60.0  # below is hum


class Spectrogram(Extractor):
    """`log_mel` holds float16 values, row-major (num_frames, 64)."""

    name: ClassVar[str] = "spectrogram"
    kind: ClassVar[Kind] = "audio"
    columns: ClassVar[pa.Schema] = pa.schema(
        [
            ("log_mel", pa.large_binary()),
            ("num_frames", pa.int32()),
            ("mfcc_mean", pa.list_(pa.float32())),
            ("mfcc_std", pa.list_(pa.float32())),
        ]
    )

    @property
    def version(self) -> str:
        """Number of the code's version, digest of the params."""
        return "1-" + hashing.of_json([self.params.spectrogram.model_dump(), self.params.audio_bounds.model_dump()])[:12]

    def decode(self, content: bytes) -> Arrays:
        """`samples`, int16: the sound's beginning. Raises as `read_samples`."""
        samples = read_samples(content, self.params.audio_bounds)
        return {"samples": samples[: round(self.params.spectrogram.max_s * RATE_HZ)]}

    def extract_one(self, arrays: Arrays) -> dict[str, Any] | Refused:
        """The sound's spectrogram, and mean and deviation of its coefficients over time."""
        window, hop = (round(length_s * RATE_HZ) for length_s in (self.params.spectrogram.window_s, self.params.spectrogram.hop_s))
        bands = log_mel(as_float(arrays["samples"]), RATE_HZ, window, hop, NUM_BANDS)
        coefficients = mfcc(bands, NUM_COEFFICIENTS)
        return {
            "log_mel": bands.astype("<f2").tobytes(),
            "num_frames": len(bands),
            "mfcc_mean": coefficients.mean(0).tolist(),
            "mfcc_std": coefficients.std(0).tolist(),
        }


def power_spectrum(sound: Floats32, window: int, hop: int) -> Floats32:
    """Squared magnitudes of the short-time Fourier transform with a periodic Hann window.

    Args:
        sound: float32 (n,), in [-1, 1); shorter ones are filled with silence to one window.
        window: samples of a frame.
        hop: samples from one frame to the next; a rest at the end that fills no window is left out.

    Returns:
        float32 (1 + (n - window) // hop, size // 2 + 1), size being the next fast length of the transform.
    """
    filled = np.pad(sound, (0, max(0, window - len(sound))))
    frames = sliding_window_view(filled, window)[::hop] * hann(window, sym=False).astype(np.float32)
    power: Floats32 = np.square(np.abs(np.fft.rfft(frames, next_fast_len(window, real=True)))).astype(np.float32)
    return power


def log_mel(sound: Floats32, rate_hz: int, window: int, hop: int, num_bands: int) -> Floats32:
    """Natural logarithm of the power in bands that are evenly spaced in mel.

    Args:
        sound, window, hop: as `power_spectrum`.
        rate_hz: samples a second.
        num_bands: triangular bands between 60 Hz and half the rate.

    Returns:
        float32 (num_frames, num_bands).

    Source: mel = 2595 log10(1 + f / 700) (O'Shaughnessy 1987), triangles of height 1 as in HTK (Young et al., The HTK Book, 5.4).
    """
    power = power_spectrum(sound, window, hop)
    bands: Floats32 = np.log(power @ _triangles(rate_hz, power.shape[1], num_bands).T + np.float32(_FLOOR))
    return bands


def mfcc(log_mels: Floats32, num_coefficients: int) -> Floats32:
    """Mel-frequency cepstral coefficients: orthonormal DCT-II of each frame's log-mel values, the first ones.

    Returns:
        float32 (num_frames, num_coefficients).

    Source: Davis & Mermelstein (1980), IEEE Transactions on Acoustics, Speech and Signal Processing 28(4).
    """
    coefficients: Floats32 = dct(log_mels, type=2, norm="ortho", axis=1)[:, :num_coefficients].astype(np.float32)
    return coefficients


@lru_cache
def _triangles(rate_hz: int, num_bins: int, num_bands: int) -> Floats32:
    """Weights (num_bands, num_bins) of each Fourier bin in each band."""
    low, high = (2595 * np.log10(1 + hertz / 700) for hertz in (_LOW_HZ, rate_hz / 2))
    corners = 700 * (10 ** (np.linspace(low, high, num_bands + 2) / 2595) - 1)
    bins = np.linspace(0, rate_hz / 2, num_bins)
    rising = (bins - corners[:-2, None]) / np.diff(corners)[:-1, None]
    falling = (corners[2:, None] - bins) / np.diff(corners)[1:, None]
    weights: Floats32 = np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
    return weights
