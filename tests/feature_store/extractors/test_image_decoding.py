"""Decoding: every kind of picture comes out upright and RGB; what cannot be used says why."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tests.feature_store.extractors.pictures import as_numbers, blobs, encoded
from upheld.feature_store.decoding.contract import Undecodable
from upheld.feature_store.decoding.images import decode_square, decode_within

MAX_PIXELS = 1_000_000


def reason(content: bytes) -> str:
    with pytest.raises(Undecodable) as found:
        decode_square(content, 64, MAX_PIXELS)
    return found.value.refused.reason


@pytest.mark.parametrize(("kind", "options"), [("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("WEBP", {}), ("BMP", {})])
def test_each_format_gives_the_same_picture(kind: str, options: dict[str, bool]) -> None:
    image = blobs(1)
    picture = decode_square(encoded(image, kind, **options), 64)
    expected = as_numbers(image.resize((64, 64), Image.Resampling.BOX))
    assert picture.shape == (64, 64, 3)
    assert picture.dtype == np.uint8
    assert np.abs(picture - expected).mean() < 4  # resizing and compression differ by so many of 255


@pytest.mark.parametrize("size", [(1600, 1200), (640, 480), (225, 225), (100, 60)])
def test_scaled_decoding_shows_what_plain_decoding_shows(size: tuple[int, int]) -> None:
    content = encoded(blobs(2, *size))
    plain = as_numbers(Image.open(io.BytesIO(content)).resize((224, 224), Image.Resampling.BILINEAR))
    assert np.abs(decode_square(content, 224) - plain).mean() < 2


@pytest.mark.parametrize("mode", ["CMYK", "L"])
def test_other_colour_models(mode: str) -> None:
    image = blobs(3).convert(mode)
    assert np.abs(decode_square(encoded(image), 64) - as_numbers(image.resize((64, 64), Image.Resampling.BOX))).mean() < 4


def test_transparency_is_laid_on_white() -> None:
    image = Image.new("RGBA", (40, 30), (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (0, 0, 20, 30))
    palette = Image.new("P", (40, 30), 0)
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.paste(1, (0, 0, 20, 30))
    grey = Image.new("LA", (40, 30), (0, 128))
    for content in (encoded(image, "PNG"), encoded(image, "WEBP", lossless=True), encoded(palette, "PNG", transparency=0)):
        picture = decode_square(content, 32)
        assert picture[16, 4].tolist() == [0, 0, 255]
        assert picture[16, 28].tolist() == [255, 255, 255]
    assert decode_square(encoded(grey, "PNG"), 32)[0, 0].tolist() == pytest.approx([127] * 3, abs=1)


def test_sixteen_bits_are_scaled_not_cut_off() -> None:
    ramp = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (64, 1))
    picture = decode_square(encoded(Image.fromarray(ramp), "PNG"), 64)
    assert np.abs(picture[:, :, 0].astype(int) - (ramp >> 8)).max() <= 1


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame(kind: str) -> None:
    red, blue = (Image.new("RGB", (20, 20), colour) for colour in ("red", "blue"))
    red_part, green, _ = decode_square(encoded(red, kind, save_all=True, append_images=[blue]), 32)[16, 16]
    assert red_part > 240
    assert green < 16


TURNS = {1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: lambda a: a.swapaxes(0, 1)}
TURNS |= {6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a.swapaxes(0, 1), 2), 8: np.rot90}


@pytest.mark.parametrize("orientation", [*range(1, 9), 0, 9])
def test_exif_orientation(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = blobs(4, 60, 40)
    decoded = decode_within(encoded(image, "PNG", exif=exif), 60)
    upright = TURNS.get(orientation, TURNS[1])(np.asarray(image))
    assert (decoded.picture == upright).all()
    assert (decoded.height, decoded.width) == upright.shape[:2]


def test_broken_exif_is_no_reason_to_refuse() -> None:
    content = encoded(blobs(5, 60, 40), "PNG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff")
    assert decode_within(content, 60)[1:] == (60, 40)


@pytest.mark.parametrize(("size", "shown"), [((800, 600), (100, 75)), ((50, 20), (50, 20)), ((3000, 4), (100, 1))])
def test_decode_within_keeps_proportions_and_enlarges_nothing(size: tuple[int, int], shown: tuple[int, int]) -> None:
    decoded = decode_within(encoded(blobs(6, *size), "PNG"), 100)
    assert decoded.picture.shape == (shown[1], shown[0], 3)
    assert (decoded.width, decoded.height) == size


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF"])
def test_truncated_files(kind: str) -> None:
    content = encoded(blobs(7), kind)
    assert reason(content[: len(content) * 2 // 3]) == "image_truncated"


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = [(b"IHDR", head), *chunks, (b"IDAT", zlib.compress(b"\x00")), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in body)


def test_bombs_are_seen_before_a_pixel_is_made() -> None:
    assert reason(png(2000, 2000)) == "image_bomb"
    assert reason(png(65535, 65535)) == "image_bomb"
    text = b"Comment\x00\x00" + zlib.compress(bytes(200_000_000), 9)
    assert reason(png(10, 10, (b"zTXt", text))) == "image_bomb"


def test_pillow_s_own_bound_holds_where_none_is_given() -> None:
    with pytest.raises(Undecodable, match="image_bomb"):
        decode_square(png(65535, 65535), 64)


@pytest.mark.parametrize(
    "content", [b"x", b"%PDF-1.4", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"II*\x00" + bytes(100), b"\xff\xd8\xff"]
)
def test_what_is_no_picture_of_ours(content: bytes) -> None:
    assert reason(content) == "image_format"


def test_nothing_and_nonsense() -> None:
    assert reason(b"") == "image_empty"
    content = bytearray(encoded(blobs(8), "PNG"))
    content[60:90] = b"\xff" * 30
    assert reason(bytes(content)) == "image_corrupt"


def test_hostile_bytes_end_as_a_reason_and_nothing_else() -> None:
    random = np.random.default_rng(9)
    files = [encoded(blobs(10, 64, 48), kind) for kind in ("JPEG", "PNG", "WEBP", "BMP", "GIF")]
    for _ in range(400):
        content = bytearray(files[random.integers(len(files))])
        for place in random.integers(0, len(content), random.integers(1, 20)):
            content[place] = random.integers(256)
        try:
            assert decode_square(bytes(content), 32, MAX_PIXELS).shape == (32, 32, 3)
        except Undecodable as error:
            assert error.refused.reason.startswith("image_")
