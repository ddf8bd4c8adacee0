"""The one way from an image's bytes to pixels, for ingest, features, training and serving: within bounds, upright, RGB on white."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from upheld.common.params.section import Section
from upheld.feature_store.decoding.contract import Arrays, Undecodable

Picture = NDArray[np.uint8]  # (H, W, 3), RGB

# Decoders that we let near foreign bytes; Pillow knows dozens more.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "WEBP")
_ORIENTATION = 0x0112  # tag of Exif 2.32, table 4; its eight values say what undoes them
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)


class Decoded(NamedTuple):
    """A picture, possibly smaller than the file's, and the file's own upright width and height in pixels."""

    picture: Picture
    width: int
    height: int


@contextmanager
def opened(content: bytes, max_pixels: int | None = None) -> Iterator[Image.Image]:
    """An image whose header has been read; of an animation, the first frame. What goes wrong in the block ends as `Undecodable`.

    Args:
        content: the file's bytes; its name says nothing here.
        max_pixels: width × height that the header may declare, judged before any pixel is made; None: whoever took the bytes in
            has judged them, and Pillow's own bound holds.

    Raises:
        Undecodable: `image_empty`, `image_format` (none of FORMATS), `image_bomb`, `image_truncated`, `image_corrupt`.
    """
    if not content:
        raise Undecodable("image_empty", "0 bytes")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata; what counts is whether it decodes within bounds
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                width, height = image.size
                if max_pixels is not None and width * height > max_pixels:
                    raise Undecodable("image_bomb", f"{width} x {height} pixels, at most {max_pixels}")
                yield image
    except Undecodable:
        raise
    except UnidentifiedImageError as error:
        raise Undecodable("image_format", f"no header of {', '.join(FORMATS)}") from error
    except Exception as error:  # Pillow's decoders share no type
        # Pillow does not say that a WebP file is cut, whose header holds its length.
        cut = content[:4] == b"RIFF" and int.from_bytes(content[4:8], "little") > len(content) - 8
        reason = "image_truncated" if cut or isinstance(error, EOFError) or "truncated" in str(error).lower() else "image_corrupt"
        if isinstance(error, Image.DecompressionBombError) or "too large" in str(error):  # the latter of a compressed text chunk
            reason = "image_bomb"
        raise Undecodable(reason, f"{type(error).__name__}: {error}") from error


def decode_square(content: bytes, size: int, max_pixels: int | None = None) -> Picture:
    """Decode an image to a square, uint8 (size, size, 3) RGB: what networks read. Raises as `opened`.

    The whole picture is squeezed into the square: a centre crop would lose what sits at a border.
    """
    with opened(content, max_pixels) as image:
        return _scaled(image, (size, size))[0]


def decode_within(content: bytes, longest: int, max_pixels: int | None = None) -> Decoded:
    """Decode an image in its proportions, at most `longest` pixels on either side, never larger than the file says. Raises as `opened`."""
    with opened(content, max_pixels) as image:
        width, height = image.size
        factor = min(1.0, longest / max(width, height))
        picture, sideways = _scaled(image, (max(1, round(width * factor)), max(1, round(height * factor))))
        return Decoded(picture, *((height, width) if sideways else (width, height)))


def decode_whole(content: bytes, max_pixels: int | None = None) -> Picture:
    """Decode an image with all its pixels, uint8 (height, width, 3) RGB, upright. Raises as `opened`."""
    with opened(content, max_pixels) as image:
        return _scaled(image, image.size)[0]


def decode_transparent(content: bytes, max_pixels: int | None = None) -> Picture:
    """Decode an image with all its pixels and what shows through them: of marks, which lie on whatever is behind. Raises as `opened`.

    Returns:
        uint8 (height, width, 4), RGB and straight alpha.
    """
    with opened(content, max_pixels) as image:
        image.load()
        return np.asarray(_turned(_in_full_colour(image), _orientation(image)).convert("RGBA"), np.uint8)


def _scaled(image: Image.Image, size: tuple[int, int]) -> tuple[Picture, bool]:
    """Resize, then turn and lay on white what is small by then; and whether the turn made width of height."""
    image.draft("RGB", size)  # JPEG decodes at 1/2, 1/4 or 1/8 where that suffices: twice as fast
    image.load()  # before anything else does so, and swallows what is wrong
    orientation = _orientation(image)
    shrinks = size[0] <= image.width and size[1] <= image.height
    how = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR  # averages over areas: as smooth, and a fifth of the time less
    small = _in_full_colour(image).resize(size, how, reducing_gap=2.0)
    small = _turned(small, orientation)
    if small.mode == "RGBA":
        small = Image.alpha_composite(Image.new("RGBA", small.size, "white"), small).convert("RGB")
    return np.asarray(small, np.uint8), orientation in _SIDEWAYS


def _in_full_colour(image: Image.Image) -> Image.Image:
    """RGBA where anything may show through, else RGB."""
    if image.mode.startswith("I"):  # 16 bits a pixel, which Pillow would cut off at 255 instead of scaling
        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
    mode = "RGBA" if image.has_transparency_data else "RGB"
    return image if image.mode == mode else image.convert(mode)  # which copies in any case


def _turned(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _orientation(image: Image.Image) -> int:
    """The Exif orientation; 1, upright, where there is none or it cannot be read."""
    with suppress(Exception):  # broken metadata is no reason to refuse a picture
        return int(image.getexif().get(_ORIENTATION, 1))
    return 1


class ImageBounds(Section):
    """Width times height in pixels that a delivered image may have, and memory of a process that decodes it."""

    max_pixels: int
    decode_memory_bytes: int


class ImageCheck:
    """Decodes a delivered image once, to see that it can be; `feature_store/sandbox/pool.py` makes it in its workers."""

    def __init__(self, bounds: ImageBounds) -> None:
        self._bounds = bounds

    def decode(self, content: bytes) -> Arrays:
        """Decode the first frame; its size is judged by the header, before any pixel is made.

        Returns:
            size: int32 (2,), width and height in pixels; format: uint8, Pillow's name of it in ASCII.

        Raises:
            Undecodable: `media_too_large` or `media_corrupt`.
        """
        try:
            with opened(content, self._bounds.max_pixels) as image:
                image.load()
                name = np.frombuffer(str(image.format).encode(), np.uint8)
                return {"size": np.array(image.size, np.int32), "format": name}
        except Undecodable as error:
            if error.refused.reason == "image_bomb":
                raise Undecodable("media_too_large", error.refused.detail) from error
            raise Undecodable("media_corrupt", f"not a readable image: {error}") from error

    def fits(self, answer: Arrays) -> bool:
        """Whether arrays are such as `decode` returns: what a worker says may have been put into its mouth by a file.

        Raises:
            KeyError, TypeError, ValueError: they are far from it.
        """
        size, name = answer["size"], answer["format"]
        if len(answer) != 2 or size.dtype != np.int32 or size.shape != (2,) or name.dtype != np.uint8:
            return False
        width, height = size.tolist()
        within = width > 0 and height > 0 and width * height <= self._bounds.max_pixels
        return within and name.tobytes() in {known.encode() for known in FORMATS}
