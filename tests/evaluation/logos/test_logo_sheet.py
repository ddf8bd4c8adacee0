"""The sheet of pictures: every tile in its place, its frame where the box is, and captions that stay within their tile."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from upheld.evaluation.logos import sheet
from upheld.evaluation.logos.sheet import GAP, LINE, SIDE, Tile

GREY = (120, 120, 120)
PHOTO = Image.new("RGB", (400, 200), GREY)


def drawn(*tiles: Tile) -> np.ndarray:
    return np.asarray(sheet.draw(tiles, {"p": PHOTO})).astype(int)


@pytest.mark.parametrize("num_tiles", [1, 5, 6, 15])
def test_tiles_fill_rows_of_five(num_tiles: int) -> None:
    pixels = drawn(*[Tile("found", "p", "a 0.90", (100.0, 50.0, 300.0, 150.0))] * num_tiles)
    assert pixels.shape == (-(-num_tiles // 5) * (SIDE + LINE), 5 * SIDE, 3)


def test_the_frame_is_where_the_box_is() -> None:
    pixels = drawn(Tile("missed", "p", "a", (100.0, 50.0, 300.0, 150.0)))
    yellow = np.argwhere((pixels == (0xE6, 0x9F, 0x00)).all(axis=2))
    factor = (SIDE - GAP) / 400
    top = SIDE - GAP // 2 - 200 * factor
    assert yellow.min(axis=0) == pytest.approx([top + 50 * factor, GAP // 2 + 100 * factor], abs=1)
    assert yellow.max(axis=0) == pytest.approx([top + 150 * factor, GAP // 2 + 300 * factor], abs=1)


def test_a_long_caption_ends_with_its_tile() -> None:
    box = (0.0, 0.0, 400.0, 200.0)
    pixels = drawn(Tile("found", "p", "y" * 300, box), Tile("found", "p", "b", box))
    below = (pixels[SIDE:] < 200).any(axis=(0, 2))
    assert below[:SIDE].any()
    assert not below[SIDE - GAP // 2 + 1 : SIDE + GAP // 2].any()


def test_the_surest_false_alarms_are_chosen_and_some_of_the_others() -> None:
    corners = ["x1", "y1", "x2", "y2"]
    marks = pd.DataFrame([(f"p{k}", "a", 0.0, 0.0, 9.0, 9.0) for k in range(8)], columns=["image", "brand", *corners])
    right = marks.head(4).assign(confidence=0.9)
    wrong = pd.DataFrame(
        [(f"q{k}", "a", k / 10, 0.0, 0.0, 9.0, 9.0) for k in range(10)], columns=["image", "brand", "confidence", *corners]
    )
    tiles = sheet.choose(marks, pd.concat([right, wrong], ignore_index=True), 0.5, 3, 1)
    assert [tile.kind for tile in tiles] == ["found"] * 3 + ["missed"] * 3 + ["false alarm"] * 3
    assert {tile.image for tile in tiles[:3]} <= {"p0", "p1", "p2", "p3"}
    assert {tile.image for tile in tiles[3:6]} <= {"p4", "p5", "p6", "p7"}
    assert [tile.caption for tile in tiles[6:]] == ["a 0.90", "a 0.80", "a 0.70"]
