"""Text that Pillow draws is the oracle; which scripts come out at all is measured, not assumed."""

import io
import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from upheld.common.params import params
from upheld.feature_store.decoding.contract import Undecodable
from upheld.feature_store.extractors.image.ocr import Ocr

PARAMS = params.load(Path(__file__).resolve().parents[3] / "params.yaml")
PLACES = {(20, 20): "BUY", (420, 24): "CHEAP", (20, 150): "PILLS", (420, 158): "TODAY"}  # left and top in pixels, of 640 x 240


@pytest.fixture(scope="module")
def ocr() -> Ocr:
    return Ocr(PARAMS)


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def drawn(places: dict[tuple[int, int], str], size: tuple[int, int] = (640, 240), height: int = 40) -> Image.Image:
    image = Image.new("RGB", size, "white")
    for place, text in places.items():
        ImageDraw.Draw(image).text(place, text, "black", ImageFont.load_default(height))
    return image


def test_words_come_in_reading_order_with_boxes_around_them(ocr: Ocr) -> None:
    [row] = ocr.extract([ocr.decode(png(drawn(PLACES)))])
    assert row["text"] == "BUY CHEAP\nPILLS TODAY"
    for line, (x, y) in zip(row["lines"], PLACES, strict=True):
        assert line["text"] == PLACES[x, y]
        assert PARAMS.ocr.min_prob <= line["prob"] <= 1
        assert abs(line["x1"] * 640 - x) < 20 and abs(line["y1"] * 240 - y) < 25
        assert line["x1"] < line["x2"] <= 1 and line["y1"] < line["y2"] <= 1


def test_text_upside_down_is_read(ocr: Ocr) -> None:
    [row] = ocr.extract([ocr.decode(png(drawn({(40, 100): "FREE MONEY NOW"}).rotate(180)))])
    assert row["text"].replace(" ", "") == "FREEMONEYNOW"


def test_a_picture_without_text_has_none(ocr: Ocr) -> None:
    noise = Image.fromarray(np.random.default_rng(3).integers(0, 256, (200, 300, 3), np.uint8))
    assert ocr.extract([ocr.decode(png(Image.new("RGB", (300, 200), "grey"))), ocr.decode(png(noise))]) == [{"text": "", "lines": []}] * 2


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (2000, 1), (1, 2000), (5000, 40), (40, 5000)])
def test_odd_shapes_are_read_in_bounded_memory(ocr: Ocr, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    ocr.extract([ocr.decode(png(Image.new("RGB", (64, 64), "white")))])  # loads the model
    detector = ocr._engine.text_det.infer
    monkeypatch.setattr(ocr._engine.text_det, "infer", lambda pixels: seen.append(pixels.size) or detector(pixels))
    [row] = ocr.extract([ocr.decode(png(Image.new("RGB", size, "white")))])
    assert row == {"text": "", "lines": []}
    assert max(seen) <= 3 * 4 * PARAMS.ocr.min_side**2 or max(seen) <= 3 * PARAMS.ocr.max_side**2


def test_of_much_text_the_first_lines_are_read() -> None:
    short = Ocr(params.load(Path(__file__).resolve().parents[3] / "params.yaml", ["ocr.max_length=9.0"]))
    [row] = short.extract([short.decode(png(drawn(PLACES)))])
    assert row["text"] == "BUY CHEAP"


def test_it_fits_its_columns(ocr: Ocr) -> None:
    import pyarrow as pa

    rows = ocr.extract([ocr.decode(png(drawn(PLACES)))])
    table = pa.Table.from_pylist(rows, ocr.columns)
    assert table["text"].to_pylist() == [rows[0]["text"]]
    assert {len(row) for row in table["lines"].to_pylist()} == {4}


def test_reading_is_silent_and_needs_no_network(ocr: Ocr, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise AssertionError("reached for the network")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    fresh = Ocr(PARAMS)
    fresh.extract([fresh.decode(png(drawn({(20, 20): "SPAM"})))])
    assert capfd.readouterr() == ("", "")


def test_the_version_follows_params_and_needs_no_model_loaded() -> None:
    other = params.load(Path(__file__).resolve().parents[3] / "params.yaml", ["ocr.min_prob=0.7"])
    assert Ocr(PARAMS).version == Ocr(PARAMS).version != Ocr(other).version
    assert Ocr(PARAMS).unavailable() is None


def test_what_is_no_image_is_refused_with_its_reason(ocr: Ocr) -> None:
    with pytest.raises(Undecodable, match="image_empty"):
        ocr.decode(b"")
