"""Colour statistics against the textbook's formulas, pixel by pixel."""

import colorsys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.feature_store.extractors.pictures import as_numbers, blobs, encoded
from upheld.common.params import params
from upheld.feature_store.extractors.image.colour import CHANNELS, Colour


@pytest.fixture(scope="module")
def colour() -> Colour:
    return Colour(params.load(Path("params.yaml")))


def features(colour: Colour, image: Image.Image) -> dict[str, float]:
    (row,) = colour.extract([colour.decode(encoded(image, "PNG"))])
    assert isinstance(row, dict)
    assert list(row) == colour.columns.names
    return row


def test_against_colorsys(colour: Colour) -> None:
    image = blobs(1, 40, 30)
    row = features(colour, image)
    pixels = as_numbers(image).reshape(-1, 3) / 255
    for place, channel in enumerate(CHANNELS):
        assert row[f"{channel}_mean"] == pytest.approx(pixels[:, place].mean(), abs=1e-5)
        assert row[f"{channel}_std"] == pytest.approx(pixels[:, place].std(), abs=1e-5)
    hsv = np.array([colorsys.rgb_to_hsv(*pixel) for pixel in pixels])
    assert row["saturation_mean"] == pytest.approx(hsv[:, 1].mean(), abs=1e-5)
    chroma = hsv[:, 1] * hsv[:, 2]
    shares = [chroma[np.floor(hsv[:, 0] * 12) == hue].sum() / chroma.sum() for hue in range(12)]
    assert row["hue_shares"] == pytest.approx(shares, abs=0.002)
    luma = pixels[:, 0] * 0.299 + pixels[:, 1] * 0.587 + pixels[:, 2] * 0.114
    assert (row["brightness_mean"], row["brightness_std"]) == pytest.approx((luma.mean(), luma.std()), abs=1e-5)
    assert (row["width"], row["height"]) == (40, 30)


@pytest.mark.parametrize(("name", "hue"), [("red", 0), ("yellow", 2), ("lime", 4), ("cyan", 6), ("blue", 8), ("magenta", 10)])
def test_pure_colours(colour: Colour, name: str, hue: int) -> None:
    row = features(colour, Image.new("RGB", (5, 5), name))
    assert row["hue_shares"].argmax() == hue  # type: ignore[attr-defined]
    assert row["saturation_mean"] == 1


def test_grey_has_no_hue(colour: Colour) -> None:
    row = features(colour, Image.new("RGB", (5, 5), "grey"))
    assert row["hue_shares"].sum() == 0  # type: ignore[attr-defined]
    assert row["colourfulness"] == pytest.approx(0, abs=1e-7)


def test_a_shrunk_picture_has_the_colours_of_the_whole(colour: Colour) -> None:
    image = blobs(2, 1600, 1200)
    whole = as_numbers(image).reshape(-1, 3) / 255
    row = features(colour, image)
    assert [row[f"{channel}_mean"] for channel in CHANNELS] == pytest.approx(whole.mean(0), abs=0.005)
    assert [row[f"{channel}_std"] for channel in CHANNELS] == pytest.approx(whole.std(0), abs=0.01)
    assert (row["width"], row["height"]) == (1600, 1200)
