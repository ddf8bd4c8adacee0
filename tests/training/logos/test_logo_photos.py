"""Photos as a detector is fed them: boxes follow the pixels."""

import numpy as np
import pytest

from upheld.training.logos.photos import Photo, letterbox, moved, padded


def photo(*boxes: tuple) -> Photo:
    return Photo("p", np.array(boxes, np.float32).reshape(-1, 4), np.ones(len(boxes), np.int64))


@pytest.mark.parametrize("shape", [(100, 200), (200, 100), (7, 400), (64, 64)])
def test_a_letterboxed_picture_keeps_its_proportions(shape) -> None:
    square, factor = letterbox(np.full((*shape, 3), 250, np.uint8), 64)
    assert square.shape == (64, 64, 3)
    assert factor == 64 / max(shape)
    inside = (square[..., 0] > 180).sum() / (64 * 64)
    assert inside == pytest.approx(max(1, round(min(shape) * factor)) / 64, abs=0.02)


@pytest.mark.parametrize("seed", range(20))
def test_boxes_move_with_what_they_surround(seed) -> None:
    picture = np.full((200, 200, 3), 60, np.uint8)
    picture[60:140, 50:130] = 255
    moved_picture, marks = moved(picture, photo((50, 60, 130, 140)), 160, np.random.default_rng(seed))
    bright = moved_picture[..., 0].astype(int) > int(moved_picture[..., 0].max()) - 25
    if not len(marks.boxes):
        assert bright.sum() < 0.5 * (0.5 * 160 / 200 * 80) ** 2 * 8  # nearly all of it left the picture
        return
    y, x = np.nonzero(bright)
    seen = [x.min(), y.min(), x.max() + 1, y.max() + 1]
    assert marks.boxes[0] == pytest.approx(seen, abs=2)


def test_a_draw_depends_on_its_seed_alone() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (80, 80, 3), np.uint8)
    first, again, other = (moved(picture, photo((10, 10, 50, 50)), 64, np.random.default_rng(seed))[0] for seed in (1, 1, 2))
    assert (first == again).all() and (first != other).any()


def test_the_largest_marks_of_a_crowded_photo_are_kept() -> None:
    boxes, classes = padded([photo(*((0, 0, side, side) for side in range(1, 80))), photo()])
    assert boxes.shape == (2, 64, 4)
    assert boxes[0, :, 2].tolist() == list(range(79, 15, -1))
    assert classes.sum(1).tolist() == [64, 0]
