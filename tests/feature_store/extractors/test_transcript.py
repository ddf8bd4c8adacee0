"""On real speech, where it is at hand; and on sounds in which nobody speaks."""

import unicodedata

import jiwer
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.feature_store.deliveries import parameters
from tests.feature_store.extractors import clips
from upheld.common.errors import BadUse, FailedWork
from upheld.feature_store.extractors.audio import transcript as module
from upheld.feature_store.extractors.audio.transcript import Speech, Transcript


@pytest.fixture(scope="module")
def transcript() -> Transcript:
    return Transcript(parameters())


def extracted(extractor, content: bytes) -> dict:
    (row,) = extractor.extract([extractor.decode(content)])
    pa.Table.from_pylist([row], schema=extractor.columns)
    return row


def plain(text: str) -> str:
    """Lower case, without punctuation."""
    return "".join(sign for sign in text.lower() if unicodedata.category(sign)[0] not in "PS")


def test_english_is_understood(shared_data, transcript) -> None:
    folder = shared_data / "speech_8lang"
    spoken = {row["file"]: row["transcript"] for row in pq.read_table(folder / "clips.parquet").to_pylist()}["wav/test.wav"]
    row = extracted(transcript, (folder / "wav/test.wav").read_bytes())
    assert jiwer.wer(plain(spoken), plain(row["text"])) <= 0.15
    assert row["language"] == "en"
    assert row["language_prob"] > 0.9
    assert " ".join(segment["text"] for segment in row["segments"]) == row["text"]
    assert all(0 <= segment["start_s"] < segment["end_s"] <= 6 for segment in row["segments"])
    assert row == extracted(transcript, (folder / "wav/test.wav").read_bytes())


def test_nothing_is_invented_where_nobody_speaks(shared_data, transcript) -> None:
    nothing = {"text": "", "language": "und", "language_prob": 0.0, "segments": []}
    for name in ("speech_8lang/wav/empty.wav", "video_clips/media/rain.mp3", "video_clips/media/crunching.mp3"):
        assert extracted(transcript, (shared_data / name).read_bytes()) == nothing, name


def test_music_has_no_words(transcript) -> None:
    assert extracted(transcript, clips.sound_file(clips.melody(0, 3.0)))["text"] == ""


@pytest.mark.parametrize("samples", [np.zeros(32_000, np.int16), clips.tone(440, 2.0), clips.tone(440, 0.02)])
def test_silence_and_tones_are_no_speech(samples, transcript) -> None:
    content = clips.sound_file(samples)
    assert extracted(transcript, content)["text"] == ""
    row = extracted(Speech(parameters()), content)
    assert (row["speech_s"], row["speech_share"], row["segments"]) == (0.0, 0.0, [])
    assert row["duration_s"] == pytest.approx(len(samples) / clips.RATE_HZ)


def test_speech_is_placed_in_time(shared_data) -> None:
    speech = (shared_data / "speech_8lang/wav/test_de.wav").read_bytes()
    extractor = Speech(parameters())
    samples = extractor.decode(speech)["samples"]
    late = np.concatenate([np.zeros(5 * clips.RATE_HZ, np.int16), samples])
    early, shifted = extracted(extractor, speech), extracted(extractor, clips.sound_file(late))
    assert early["speech_share"] > 0.5
    assert shifted["segments"][0]["start_s"] == pytest.approx(early["segments"][0]["start_s"] + 5, abs=0.3)
    assert shifted["speech_s"] == pytest.approx(early["speech_s"], abs=0.5)


def test_versions_follow_what_results_depend_on() -> None:
    base = Transcript(parameters()).version
    assert base != Transcript(parameters("transcript.beam_size=1")).version
    assert base != Transcript(parameters("speech.threshold=0.6")).version
    assert base != Transcript(parameters(f"transcript.model=another/model@{'a' * 40}")).version
    assert base == Transcript(parameters("keyframes.max_side=320")).version


def test_joined_weights_are_checked(tmp_path, monkeypatch) -> None:
    files = {"data/model.bin.part1": b"first", "data/model.bin.part2": b"second"} | {f"data/{name}": b"{}" for name in module._SMALL_FILES}
    (tmp_path / "data").mkdir()
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "packaged_file", lambda _, relative: tmp_path / relative)
    with pytest.raises(FailedWork, match="the joined parts have digest"):
        module.joined_folder()
    assert not list((tmp_path / "cache").rglob("model.bin*"))
    digest = "da83f63e1a473003712c18f5afc5a79044221943d1083c7c5a7ac7236d85e8d2"  # sha256 of "firstsecond"
    monkeypatch.setattr(module, "_JOINED_DIGEST", digest)
    model = module.joined_folder() / "model.bin"
    assert model.read_bytes() == b"firstsecond"
    model.write_bytes(b"damaged")
    assert (module.joined_folder() / "model.bin").read_bytes() == b"firstsecond"


def test_missing_packages_are_said(monkeypatch) -> None:
    def missing(package: str, relative: str) -> None:
        raise FailedWork(f"no {package}; run `make setup`")

    assert Transcript(parameters()).unavailable() is None
    monkeypatch.setattr(module, "packaged_file", missing)
    assert "make setup" in (Transcript(parameters()).unavailable() or "")


def test_a_folder_without_a_model_is_bad_use(tmp_path) -> None:
    extractor = Transcript(parameters(f"transcript.model={tmp_path}"))
    with pytest.raises(BadUse, match=r"transcript\.model"):
        module.load_whisper(extractor.params.transcript.model, "int8")
