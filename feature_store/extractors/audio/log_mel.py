"""Short-time Fourier transform, mel bands and cepstral coefficients of a sound."""

from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.fft import dct, next_fast_len
from scipy.signal.windows import hann

Floats = NDArray[np.float32]

_FLOOR = 1e-6  # added to the power in a band; silence is ln(1e-6) = -13.8
_LOW_HZ = 60.0  # below is hum


def power_spectrum(sound: Floats, window: int, hop: int) -> Floats:
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
    power: Floats = np.square(np.abs(np.fft.rfft(frames, next_fast_len(window, real=True)))).astype(np.float32)
    return power


def log_mel(sound: Floats, rate_hz: int, window: int, hop: int, num_bands: int) -> Floats:
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
    bands: Floats = np.log(power @ _triangles(rate_hz, power.shape[1], num_bands).T + np.float32(_FLOOR))
    return bands


def mfcc(log_mels: Floats, num_coefficients: int) -> Floats:
    """Mel-frequency cepstral coefficients: orthonormal DCT-II of each frame's log-mel values, the first ones.

    Returns:
        float32 (num_frames, num_coefficients).

    Source: Davis & Mermelstein (1980), IEEE Transactions on Acoustics, Speech and Signal Processing 28(4).
    """
    coefficients: Floats = dct(log_mels, type=2, norm="ortho", axis=1)[:, :num_coefficients].astype(np.float32)
    return coefficients


@lru_cache
def _triangles(rate_hz: int, num_bins: int, num_bands: int) -> Floats:
    """Weights (num_bands, num_bins) of each Fourier bin in each band."""
    low, high = (2595 * np.log10(1 + hertz / 700) for hertz in (_LOW_HZ, rate_hz / 2))
    corners = 700 * (10 ** (np.linspace(low, high, num_bands + 2) / 2595) - 1)
    bins = np.linspace(0, rate_hz / 2, num_bins)
    rising = (bins - corners[:-2, None]) / np.diff(corners)[:-1, None]
    falling = (corners[2:, None] - bins) / np.diff(corners)[1:, None]
    weights: Floats = np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
    return weights
