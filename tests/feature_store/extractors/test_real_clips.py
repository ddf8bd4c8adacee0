"""Every real clip, odd containers and files that are no media among them, ends as features or as a reason."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.feature_store.deliveries import parameters
from upheld.feature_store.decoding.contract import Undecodable
from upheld.feature_store.extractors.audio.fingerprint import AudioFingerprint
from upheld.feature_store.extractors.audio.spectrogram import Spectrogram
from upheld.feature_store.extractors.audio.transcript import Speech, Transcript
from upheld.feature_store.extractors.video.action import Action
from upheld.feature_store.extractors.video.keyframes import Keyframes
from upheld.feature_store.extractors.video.motion import Motion

NO_MEDIA = (".srt", ".jpg")


@pytest.fixture(scope="module")
def clips_folder(shared_data):
    return shared_data / "video_clips"


@pytest.mark.parametrize("make", [Keyframes, Motion, Speech, Transcript, Spectrogram, AudioFingerprint])
def test_every_clip_ends_as_features_or_as_the_right_reason(make, clips_folder) -> None:
    extractor = make(parameters())
    for clip in pq.read_table(clips_folder / "clips.parquet").to_pylist():
        content = (clips_folder / clip["file"]).read_bytes()
        streams = str(clip["streams"])
        try:
            (row,) = extractor.extract([extractor.decode(content)])
        except Undecodable as error:
            found = error.refused.reason
        else:
            pa.Table.from_pylist([row], schema=extractor.columns)
            assert all(value is not None for value in row.values()), clip["file"]
            found = None
        if clip["file"].endswith(NO_MEDIA):
            expected = f"{extractor.kind}_unknown_format"
        else:
            missing = "video_no_stream" if extractor.kind == "video" else "audio_none"
            expected = None if extractor.kind in streams else missing
        assert found == expected, clip["file"]


def test_durations_and_sizes_are_those_measured_before(clips_folder) -> None:
    extractor = Keyframes(parameters())
    for clip in pq.read_table(clips_folder / "clips.parquet").to_pylist():
        if "video" not in str(clip["streams"]) or clip["file"].endswith(NO_MEDIA):
            continue
        row = extractor.decode((clips_folder / clip["file"]).read_bytes())
        assert (row["width"], row["height"], row["num_frames"]) == (clip["width"], clip["height"], clip["decoded_frames"]), clip["file"]
        if clip["seconds"] is not None:
            assert float(row["duration_s"]) == pytest.approx(clip["seconds"], abs=0.1), clip["file"]


def test_action_reads_them_too(clips_folder) -> None:
    extractor = Action(parameters())
    assert extractor.decode((clips_folder / "media/test_video.mp4").read_bytes())["clips"].shape[1:] == (16, 112, 112, 3)
    assert len(extractor.decode((clips_folder / "media/chaplin.mp4").read_bytes())["clips"]) <= 4
