"""Melodies made on the spot: the same one encoded anew, quieter or cut is found; another one is not."""

import itertools

import numpy as np
import pyarrow as pa
import pytest

from tests.feature_store.deliveries import parameters
from tests.feature_store.extractors import clips
from upheld.feature_store.decoding.audio import RATE_HZ, read_samples
from upheld.feature_store.extractors.audio.fingerprint import NO_MATCH, AudioFingerprint, Fingerprint, compare, is_same, landmarks

PARAMS = parameters()
SEEDS = range(6)


def fingerprint(content: bytes) -> Fingerprint:
    extractor = AudioFingerprint(PARAMS)
    (row,) = extractor.extract([extractor.decode(content)])
    table = pa.Table.from_pylist([row], schema=extractor.columns)
    return Fingerprint(*(table[name][0].values.to_numpy(zero_copy_only=False) for name in ("hashes", "times")))


def variants(samples: np.ndarray) -> dict[str, bytes]:
    cut = samples[int(0.3 * len(samples)) + 77 :][: len(samples) // 2]
    return {
        "quieter": clips.sound_file((samples * 0.2).astype(np.int16)),
        "mp3": clips.sound_file(samples, "libmp3lame", "mp3"),
        "aac": clips.sound_file(samples, "aac", "mp4", rate_hz=48_000),
        "cut": clips.sound_file(cut),
        "cut mp3": clips.sound_file(cut, "libmp3lame", "mp3"),
        "cut aac": clips.sound_file(cut, "aac", "mp4"),
        "video": clips.video([np.zeros((32, 32, 3), np.uint8)] * 10, sound=samples),
    }


@pytest.fixture(scope="module")
def melodies() -> dict[int, tuple[np.ndarray, Fingerprint]]:
    made = {seed: clips.melody(seed, 8.0) for seed in SEEDS}
    return {seed: (samples, fingerprint(clips.sound_file(samples))) for seed, samples in made.items()}


def test_the_same_sound_is_found_however_it_was_changed(melodies) -> None:
    for seed in (0, 1):
        samples, known = melodies[seed]
        for name, content in variants(samples).items():
            match = compare(known, fingerprint(content))
            assert is_same(match, PARAMS.audio_fingerprint), (seed, name, match)
            assert match.offset_s == pytest.approx(2.4 if "cut" in name else 0, abs=0.1), name  # AAC begins with 64 ms of its own


def test_another_sound_is_not(melodies) -> None:
    for first, second in itertools.combinations(SEEDS, 2):
        match = compare(melodies[first][1], melodies[second][1])
        assert not is_same(match, PARAMS.audio_fingerprint), (first, second, match)
        assert match.share < PARAMS.audio_fingerprint.thr_share / 2


def test_real_sounds(shared_data) -> None:
    wanted = ["speech_8lang/wav/test_fr.wav", "speech_8lang/wav/test_pt.wav", "speech_8lang/wav/test.wav", "video_clips/media/rain.mp3"]
    sounds = [read_samples((shared_data / name).read_bytes(), PARAMS.audio_bounds) for name in wanted]
    known = [fingerprint(clips.sound_file(samples)) for samples in sounds]
    for name, content in variants(sounds[0]).items():
        matches = [is_same(compare(one, fingerprint(content)), PARAMS.audio_fingerprint) for one in known]
        assert matches == [True, False, False, False], name


def test_an_excerpt_is_found_in_its_film(shared_data) -> None:
    film, excerpt = (
        fingerprint((shared_data / "video_clips/media" / name).read_bytes())
        for name in ("big_buck_bunny_0_30.webm", "doc_medias__example2.mp4")
    )
    assert is_same(compare(film, excerpt), PARAMS.audio_fingerprint)


def test_silence_matches_nothing(melodies) -> None:
    silence = fingerprint(clips.sound_file(np.zeros(RATE_HZ, np.int16)))
    assert len(silence.hashes) == 0
    assert compare(silence, silence) == compare(melodies[0][1], silence) == compare(silence, melodies[0][1]) == NO_MATCH


def test_what_a_sound_repeats_all_the_time_tells_nothing() -> None:
    beeps = Fingerprint(np.full(1000, 7, np.uint32), np.arange(1000, dtype=np.int32))
    assert compare(beeps, beeps) == NO_MATCH


def test_landmarks_are_bounded_and_in_order_of_time() -> None:
    noise = (np.random.default_rng(0).normal(0, 0.2, 5 * RATE_HZ) * 32767).clip(-32768, 32767).astype(np.int16)
    hashes, times = landmarks(noise, peaks_per_s=10, fan_out=3)
    assert 0 < len(hashes) <= 5 * 10 * 3
    assert (np.diff(times) >= 0).all()
    assert np.bincount(times).max() <= 10 * 3
    again = landmarks(noise, peaks_per_s=10, fan_out=3)
    assert (hashes == again[0]).all() and (times == again[1]).all()
