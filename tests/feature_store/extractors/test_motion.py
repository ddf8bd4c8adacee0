"""The flow of pictures that were shifted by a known number of pixels."""

import numpy as np
import pyarrow as pa
import pytest

from tests.feature_store.deliveries import parameters
from tests.feature_store.extractors import clips
from upheld.feature_store.extractors.video.motion import Motion

SIDE = 160  # as params motion.side, so that nothing is shrunk


def motion(pictures: list, frames_per_s: int = 25, *overrides: str) -> dict:
    extractor = Motion(parameters(*overrides))
    (row,) = extractor.extract([extractor.decode(clips.video(pictures, frames_per_s))])
    pa.Table.from_pylist([row], schema=extractor.columns)
    return row


def panned(right: int, down: int, num_frames: int) -> list:
    """Ground that wraps around, moved by whole pixels a frame."""
    ground = clips.scene(np.random.default_rng(3), 1, SIDE, SIDE)[0].copy()
    texture = np.random.default_rng(4).normal(0, 1, (SIDE // 4, SIDE // 4)).repeat(4, 0).repeat(4, 1)[..., None]
    ground = np.clip(ground + 50 * texture, 0, 255).astype(np.uint8)
    return [np.roll(ground, (down * number, right * number), (0, 1)) for number in range(num_frames)]


@pytest.mark.parametrize(("right", "down"), [(2, 0), (0, -3), (3, 2)])
def test_a_known_translation_is_measured(right: int, down: int) -> None:
    row = motion(panned(right, down, 50))
    expected = np.hypot(right, down) * 25 / SIDE
    assert row["flow_mean"] == pytest.approx(expected, rel=0.1)  # at the borders the ground wraps around
    assert row["moving_share"] > 0.95
    assert row["num_pairs"] == 4


def test_speed_does_not_depend_on_the_frame_rate() -> None:
    slow, quick = motion(panned(2, 0, 50), 10), motion(panned(1, 0, 100), 20)
    assert slow["flow_mean"] == pytest.approx(quick["flow_mean"], rel=0.1)


def test_what_stands_still_does_not_move() -> None:
    row = motion(panned(0, 0, 50))
    assert row["flow_max"] < 0.02
    assert row["moving_share"] == 0.0


def test_a_cut_is_no_motion() -> None:
    dark, light = np.zeros((SIDE, SIDE, 3), np.uint8), np.full((SIDE, SIDE, 3), 255, np.uint8)
    row = motion([dark, light] * 2, 1, "motion.every_s=1.0")
    assert row == {"flow_mean": 0.0, "flow_std": 0.0, "flow_max": 0.0, "moving_share": 0.0, "num_pairs": 0}
    assert motion([dark])["num_pairs"] == 0


def test_pairs_are_bounded_and_small_pictures_enlarged() -> None:
    assert motion(panned(1, 0, 60), 25, "motion.every_s=0.04", "motion.max_pairs=5")["num_pairs"] <= 5
    assert motion([np.full((2, 2, 3), 9, np.uint8)] * 30)["flow_mean"] == 0.0


def test_same_bytes_same_row() -> None:
    assert motion(panned(2, 1, 30)) == motion(panned(2, 1, 30))
