"""Sounds whose pitch and length are known, through the codecs that posts come in."""

import numpy as np
import pytest

from tests.feature_store.deliveries import parameters
from tests.feature_store.extractors import clips
from upheld.feature_store.decoding.audio import RATE_HZ, read_samples
from upheld.feature_store.decoding.contract import Undecodable

BOUNDS = parameters().audio_bounds


def pitch(samples: np.ndarray) -> float:
    """Frequency of the strongest wave, in Hz."""
    return float(np.abs(np.fft.rfft(samples * np.hanning(len(samples)))).argmax() * RATE_HZ / len(samples))


def reason(content: bytes, bounds=BOUNDS) -> str:
    with pytest.raises(Undecodable) as caught:
        read_samples(content, bounds)
    return caught.value.refused.reason


@pytest.mark.parametrize(
    ("codec", "container", "rate_hz"),
    [
        ("pcm_s16le", "wav", 16_000),
        ("pcm_s16le", "wav", 44_100),
        ("libmp3lame", "mp3", 44_100),
        ("aac", "mp4", 48_000),
        ("libopus", "ogg", 48_000),
        ("flac", "flac", 8_000),
    ],
)
def test_pitch_and_length_survive(codec: str, container: str, rate_hz: int) -> None:
    samples = read_samples(clips.sound_file(clips.tone(440, 3.0), codec, container, rate_hz=rate_hz), BOUNDS)
    assert samples.dtype == np.int16
    assert len(samples) / RATE_HZ == pytest.approx(3.0, abs=0.1)
    assert pitch(samples) == pytest.approx(440, abs=1)
    assert np.abs(samples[8000:40000]).max() / 32768 == pytest.approx(0.5, abs=0.03)


def test_the_sound_of_a_video_is_read() -> None:
    grey = [np.full((32, 32, 3), 100, np.uint8)] * 50
    samples = read_samples(clips.video(grey, sound=clips.tone(660, 2.0)), BOUNDS)
    assert pitch(samples) == pytest.approx(660, abs=1)
    assert reason(clips.video(grey)) == "audio_none"


def test_each_refusal_has_its_reason() -> None:
    wave = clips.sound_file(clips.tone(440, 4.0))
    assert reason(b"") == "audio_empty"
    assert reason(b"no sound") in ("audio_corrupt", "audio_unknown_format")
    assert len(read_samples(wave[: len(wave) // 2], BOUNDS)) / RATE_HZ == pytest.approx(
        2.0, abs=0.1
    )  # FFmpeg takes WAV's length off the file
    free = clips.sound_file(clips.melody(0, 4.0), "flac", "flac")
    assert reason(free[: len(free) // 2]) == "audio_truncated"
    assert reason(wave[:44]) == "audio_corrupt"  # a header and no sample
    short = parameters("audio_bounds.max_duration_s=3.0").audio_bounds
    assert reason(wave, short) == "audio_too_long"
    assert reason(clips.sound_file(clips.tone(440, 4.0), "aac", "adts"), short) == "audio_too_long"  # no duration is stated


def test_broken_packets_are_skipped_while_most_are_sound() -> None:
    content = bytearray(clips.sound_file(clips.tone(440, 4.0), "libmp3lame", "mp3"))
    for start in range(5000, 8000):
        content[start] ^= 0x5A
    samples = read_samples(bytes(content), BOUNDS)
    assert 2.0 < len(samples) / RATE_HZ < 4.2
    assert pitch(samples[:8000]) == pytest.approx(440, abs=2)
