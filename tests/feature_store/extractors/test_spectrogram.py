"""Log-mel values against transformers' own, cepstral coefficients against the cosine sum."""

import math

import numpy as np
import pyarrow as pa
import pytest
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from tests.feature_store.deliveries import parameters
from tests.feature_store.extractors import clips
from upheld.feature_store.extractors.audio.spectrogram import Spectrogram, log_mel, mfcc, power_spectrum

RATE_HZ = clips.RATE_HZ


def row_of(samples: np.ndarray) -> dict:
    extractor = Spectrogram(parameters())
    (row,) = extractor.extract([extractor.decode(clips.sound_file(samples))])
    pa.Table.from_pylist([row], schema=extractor.columns)
    return row


def bands_of(row: dict) -> np.ndarray:
    return np.frombuffer(row["log_mel"], "<f2").reshape(row["num_frames"], 64).astype(float)


def test_log_mel_is_transformers() -> None:
    sound = clips.melody(1, 2.0).astype(np.float32) / 32768
    filters = mel_filter_bank(201, 64, 60.0, RATE_HZ / 2, RATE_HZ, norm=None, mel_scale="htk")
    window = window_function(400, "hann", periodic=True)
    power = spectrogram(sound, window, 400, 320, fft_length=400, power=2.0, center=False, mel_filters=filters, mel_floor=0.0)
    assert np.abs(log_mel(sound, RATE_HZ, 400, 320, 64) - np.log(power.T + 1e-6)).max() < 1e-3


def test_power_is_the_transform_of_each_window() -> None:
    sound = np.random.default_rng(0).normal(0, 0.1, 90).astype(np.float32)
    ours = power_spectrum(sound, 32, 20)
    assert ours.shape == (3, 17)
    for number in range(3):
        piece = [sound[number * 20 + k] * math.sin(math.pi * k / 32) ** 2 for k in range(32)]
        for bin_ in range(17):
            total = sum(
                value * complex(math.cos(2 * math.pi * bin_ * k / 32), -math.sin(2 * math.pi * bin_ * k / 32))
                for k, value in enumerate(piece)
            )
            assert ours[number, bin_] == pytest.approx(abs(total) ** 2, rel=1e-3, abs=1e-8)


def test_mfcc_is_the_cosine_sum() -> None:
    values = np.random.default_rng(0).normal(-5, 2, (3, 64)).astype(np.float32)
    ours = mfcc(values, 20)
    for frame, row in enumerate(values):
        for k in range(20):
            total = sum(value * math.cos(math.pi * k * (2 * n + 1) / 128) for n, value in enumerate(row))
            assert ours[frame, k] == pytest.approx(total * math.sqrt((1 if k == 0 else 2) / 64), abs=1e-3)


def test_a_tone_lights_its_band() -> None:
    bands = bands_of(row_of(clips.tone(1000, 1.0)))
    corners = np.linspace(2595 * math.log10(1 + 60 / 700), 2595 * math.log10(1 + 8000 / 700), 66)
    nearest = np.abs(corners[1:-1] - 2595 * math.log10(1 + 1000 / 700)).argmin()
    assert set(bands.argmax(1)) == {nearest}


def test_the_row_holds_what_it_says() -> None:
    samples = clips.melody(2, 2.0)
    row = row_of(samples)
    assert row["num_frames"] == 1 + (len(samples) - 400) // 320
    coefficients = mfcc(bands_of(row).astype(np.float32), 20)
    assert row["mfcc_mean"] == pytest.approx(coefficients.mean(0), abs=0.02)  # float16 in the store
    assert row["mfcc_std"] == pytest.approx(coefficients.std(0), abs=0.02)
    assert row == row_of(samples)


def test_silence_a_blink_and_more_than_a_minute() -> None:
    assert bands_of(row_of(np.zeros(RATE_HZ, np.int16))) == pytest.approx(math.log(1e-6), abs=0.01)
    assert row_of(clips.tone(440, 0.004))["num_frames"] == 1
    assert row_of(clips.tone(440, 70.0))["num_frames"] == 1 + (60 * RATE_HZ - 400) // 320
