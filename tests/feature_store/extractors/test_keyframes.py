"""Frames are counted and placed by the lists that the clips were made from, never by the code under test."""

import io

import av
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.feature_store.deliveries import parameters
from tests.feature_store.extractors import clips
from upheld.feature_store.contracts import hashing
from upheld.feature_store.decoding.contract import Undecodable
from upheld.feature_store.extractors.video.frame_sampling import UniformPicks
from upheld.feature_store.extractors.video.keyframes import Keyframes


def keyframes(content: bytes, *overrides: str) -> dict:
    extractor = Keyframes(parameters(*overrides))
    (row,) = extractor.extract([extractor.decode(content)])
    pa.Table.from_pylist([row], schema=extractor.columns)
    return row


def test_digests_are_there_without_the_pictures() -> None:
    row = keyframes(clips.video(clips.distinct_scenes(np.random.default_rng(3), [20, 20, 20])))
    in_order = sorted(row["frames"], key=lambda frame: frame["time_s"])
    assert row["frame_digests"] == [hashing.of_bytes(frame["jpeg"]) for frame in in_order]
    assert len(row["frame_digests"]) == row["num_frames"] > 2


def times(row: dict, picked: str) -> list[float]:
    return [round(frame["time_s"], 3) for frame in row["frames"] if frame["picked"] == picked]


def pixels(frame: dict) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(frame["jpeg"])), float)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("frames_per_s", "codec", "container"), [(25, "libx264", "mp4"), (10, "libvpx", "webm")])
def test_every_planted_cut_is_found_and_no_other(seed: int, frames_per_s: int, codec: str, container: str) -> None:
    random = np.random.default_rng(seed)
    lengths = random.integers(2, 30, 6)
    content = clips.video(clips.distinct_scenes(random, lengths), frames_per_s, codec, container)
    row = keyframes(content)
    planted = np.cumsum(lengths)[:-1] / frames_per_s
    assert row["num_cuts"] == len(planted)
    assert times(row, "scene") == pytest.approx(planted, abs=0.002)  # WebM counts milliseconds


def test_fast_motion_and_noise_are_no_cuts() -> None:
    random = np.random.default_rng(0)
    fast = clips.scene(random, 50, speed=14.0)
    grain = [random.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(30)]
    assert keyframes(clips.video(fast))["num_cuts"] == 0
    assert keyframes(clips.video(grain))["num_cuts"] == 0
    assert keyframes(clips.video(fast[:1] * 20 + fast))["num_cuts"] <= 2  # it stands still and then leaps


@pytest.mark.parametrize(("steps", "num_cuts"), [(12, 0), (25, 0), (1, 1)])
def test_a_fade_is_no_cut_unless_it_takes_a_frame_or_two(steps: int, num_cuts: int) -> None:
    dark, light = np.full((64, 64, 3), 20.0), np.full((64, 64, 3), 220.0)
    between = [dark + (light - dark) * step / steps for step in range(1, steps)]
    pictures = [picture.astype(np.uint8) for picture in [dark] * 20 + between + [light] * 20]
    row = keyframes(clips.video(pictures), "keyframes.every_s=0.2")
    assert row["num_cuts"] == num_cuts
    levels = {round(pixels(frame).mean() / 100) for frame in row["frames"]}
    assert levels >= {0, 2}  # uniform frames show both sides


def test_one_frame_of_another_picture_is_kept() -> None:
    calm = clips.scene(np.random.default_rng(1), 40, speed=0.0)
    flash = np.full_like(calm[0], 255)
    row = keyframes(clips.video([*calm[:20], flash, *calm[20:]]))
    assert times(row, "scene") == [0.8, 0.84]
    shown = next(frame for frame in row["frames"] if frame["time_s"] == pytest.approx(0.8))
    assert pixels(shown).mean() > 250


def test_of_many_cuts_the_hardest_are_kept_and_all_are_counted() -> None:
    levels = [0, 40, 0, 200, 0, 60, 0, 255, 0, 80]
    pictures = [np.full((64, 64, 3), level, np.uint8) for level in levels for _ in range(5)]
    row = keyframes(clips.video(pictures), "keyframes.max_scene=4")
    assert row["num_cuts"] == 9
    assert times(row, "scene") == [0.6, 0.8, 1.4, 1.6]  # to and from 200 and 255
    assert times(keyframes(clips.video(pictures), "keyframes.max_scene=0"), "scene") == []


def test_of_a_strobe_light_the_first_flashes_are_kept() -> None:
    dark, light = np.zeros((64, 64, 3), np.uint8), np.full((64, 64, 3), 255, np.uint8)
    assert times(keyframes(clips.video([dark] * 10 + [light, dark] * 20)), "scene") == [0.4, 0.44]


def test_uniform_frames_are_even_and_bounded() -> None:
    still = [np.full((32, 32, 3), 90, np.uint8)] * 250
    assert times(keyframes(clips.video(still)), "uniform") == [float(second) for second in range(10)]
    assert times(keyframes(clips.video(still), "keyframes.max_uniform=4"), "uniform") == [0.0, 4.0, 8.0]


@given(st.lists(st.floats(0, 500), min_size=1, max_size=80).map(sorted), st.floats(0.1, 3), st.integers(1, 9))
def test_what_is_kept_is_what_the_last_step_would_have_picked(when: list[float], step_s: float, most: int) -> None:
    picks: UniformPicks[float] = UniformPicks(step_s, most)
    for time_s in when:
        if picks.wants(time_s):
            picks.keep(time_s, time_s)
    firsts: dict[int, float] = {}
    step = step_s
    while len(firsts := {int(time_s / step): time_s for time_s in reversed(when)}) > most:
        step *= 2
    assert picks.kept() == sorted(firsts.values())
    assert len(picks.kept()) <= most


def test_frames_are_upright() -> None:
    left_red = np.zeros((48, 96, 3), np.uint8)
    left_red[:, :48, 0] = 255
    content = bytearray(clips.video([left_red] * 10))
    matrix = content.index(b"tkhd") + 4 + 4 + 4 * 5 + 8 + 8  # after version, times, id, duration, reserved, layer … volume
    assert content[matrix : matrix + 4] == (1 << 16).to_bytes(4, "big")
    quarter = [0, 1 << 16, 0, -(1 << 16) & 0xFFFFFFFF, 0, 0, 0, 0, 1 << 30]  # x' = -y, y' = x: clockwise
    content[matrix : matrix + 36] = b"".join(value.to_bytes(4, "big") for value in quarter)
    row = keyframes(bytes(content))
    assert (row["width"], row["height"]) == (48, 96)
    shown = pixels(row["frames"][0])
    assert shown.shape == (96, 48, 3)
    assert shown[:40, :, 0].mean() > 200  # what was left is above
    assert shown[56:, :, 0].mean() < 50


def test_frames_are_shrunk_never_enlarged_and_have_the_digest_of_their_bytes() -> None:
    row = keyframes(clips.video([np.full((90, 160, 3), 128, np.uint8)] * 5), "keyframes.max_side=64")
    (frame,) = row["frames"]
    assert pixels(frame).shape == (36, 64, 3)
    assert frame["digest"] == hashing.of_bytes(frame["jpeg"])
    assert pixels(keyframes(clips.video([np.full((90, 160, 3), 128, np.uint8)]))["frames"][0]).shape == (90, 160, 3)
    assert (row["width"], row["height"]) == (160, 90)


def test_same_bytes_same_row() -> None:
    content = clips.video(clips.distinct_scenes(np.random.default_rng(5), [20, 20]))
    assert keyframes(content) == keyframes(content)


def test_odd_videos() -> None:
    grey = [np.full((64, 64, 3), 100, np.uint8)] * 20
    live = keyframes(clips.video(grey, container="webm", codec="libvpx-vp9", target=clips.Stream()))
    assert live["duration_s"] == pytest.approx(0.8, abs=0.05)
    seen_through = keyframes(clips.video([np.full((64, 64, 4), 100, np.uint8)] * 5, 25, "libvpx-vp9", "webm", "yuva420p"))
    assert pixels(seen_through["frames"][0]).mean() == pytest.approx(100, abs=4)
    tiny = keyframes(clips.video([np.full((1, 1, 3), 200, np.uint8)] * 5, 1, "ffv1", "matroska", "bgr0"))
    assert (tiny["width"], tiny["height"], tiny["duration_s"]) == (1, 1, 5.0)
    moving_picture = keyframes(clips.video([np.full((32, 32, 3), level, np.uint8) for level in (0, 0, 255, 255)], 2, "gif", "gif", "rgb8"))
    assert times(moving_picture, "scene") == [1.0]
    assert keyframes(clips.video(grey, sound=clips.tone(440, 0.8)))["has_audio"]
    assert not live["has_audio"]


def reason(content: bytes, *overrides: str) -> str:
    with pytest.raises(Undecodable) as caught:
        keyframes(content, *overrides)
    return caught.value.refused.reason


def test_each_refusal_has_its_reason() -> None:
    grey = [np.full((64, 64, 3), 100, np.uint8)] * 100
    noisy = list(np.random.default_rng(0).integers(0, 256, (100, 64, 64, 3), dtype=np.uint8))
    content = clips.video(noisy, index_first=True)
    streamed = clips.video(noisy, codec="libvpx", container="webm")
    picture = io.BytesIO()
    Image.fromarray(grey[0]).save(picture, "JPEG")
    assert reason(b"") == "video_empty"
    assert reason(b"\x00" * 5000) in ("video_corrupt", "video_unknown_format")
    assert reason(b"no video at all") in ("video_corrupt", "video_unknown_format")
    assert reason(picture.getvalue()) == "video_unknown_format"
    assert reason(clips.sound_file(clips.tone(440, 1.0))) == "video_no_stream"
    assert reason(content[: len(content) // 2]) == "video_truncated"
    assert reason(streamed[: len(streamed) // 2]) == "video_truncated"
    assert reason(clips.video(noisy)[:20_000]) == "video_corrupt"  # the index comes last, and is not there
    assert reason(content, "video_bounds.max_duration_s=3.0") == "video_too_long"
    assert (
        reason(clips.video(grey, container="webm", codec="libvpx", target=clips.Stream()), "video_bounds.max_duration_s=3.0")
        == "video_too_long"
    )
    assert reason(content, "video_bounds.max_frames=99") == "video_too_many_frames"
    assert reason(content, "video_bounds.max_pixels=4095") == "video_too_large"


def test_a_cover_picture_is_no_video() -> None:
    picture = io.BytesIO()
    Image.new("RGB", (32, 32)).save(picture, "JPEG")
    body = b"\x00image/jpeg\x00\x03\x00" + picture.getvalue()
    frame = b"APIC" + len(body).to_bytes(4, "big") + b"\x00\x00" + body
    size = bytes(len(frame) >> shift & 127 for shift in (21, 14, 7, 0))
    song = clips.sound_file(clips.tone(440, 2.0), "libmp3lame", "mp3")
    tagged = b"ID3\x03\x00\x00" + size + frame + song[song.index(b"\xff\xfb") if b"\xff\xfb" in song else 0 :]
    with av.open(io.BytesIO(tagged)) as container:
        assert container.streams.video  # FFmpeg shows it as a stream
    assert reason(tagged) == "video_no_stream"


def test_a_list_of_files_opens_none(tmp_path) -> None:
    (tmp_path / "secret.mp4").write_bytes(clips.video([np.zeros((32, 32, 3), np.uint8)] * 5))
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile://{tmp_path}/secret.mp4\n#EXT-X-ENDLIST\n"
    for text in (playlist, f"ffconcat version 1.0\nfile {tmp_path}/secret.mp4\n", f"file '{tmp_path}/secret.mp4'\n"):
        assert reason(text.encode()) in ("video_unknown_format", "video_corrupt")
