"""Decodes a delivered image once, in a worker process, to see that it can be decoded within bounds."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, UnidentifiedImageError

from feature_store.extractors.contract import Arrays, Undecodable
from feature_store.params import Params

# Decoders that we let near foreign bytes; Pillow knows dozens more.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "WEBP")
_BROKEN = (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, OverflowError)


class ImageCheck:
    """What `feature_store/decode_pool.py` makes in its workers.

    Args:
        params: reads ingest.max_media_pixels.
    """

    def __init__(self, params: Params) -> None:
        self._max_pixels = params.ingest.max_media_pixels

    def decode(self, content: bytes) -> Arrays:
        """As `check_image`."""
        return check_image(content, self._max_pixels)


def check_image(content: bytes, max_pixels: int) -> Arrays:
    """Decode one image's first frame; its size is judged by the header, before any pixel is made.

    Args:
        content: the file.
        max_pixels: width times height that is allowed.

    Returns:
        size: int32 (2,), width and height in pixels; format: uint8, Pillow's name of it in ASCII.

    Raises:
        Undecodable: `media_too_large` or `media_corrupt`.
    """
    try:
        with _quietly(), Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise Undecodable("media_too_large", f"{width} x {height} pixels, at most {max_pixels}")
            image.load()
            name = np.frombuffer(str(image.format).encode(), np.uint8)
    except Image.DecompressionBombError as error:
        raise Undecodable("media_too_large", str(error)) from error
    except _BROKEN as error:
        raise Undecodable("media_corrupt", f"not a readable image: {type(error).__name__}") from error
    return {"size": np.array([width, height], np.int32), "format": name}


@contextmanager
def _quietly() -> Iterator[None]:
    """Pillow warns of odd metadata; what counts here is whether a file decodes within bounds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
