"""Decodes a delivered image once, in a worker process, to see that it can be decoded within bounds."""

import numpy as np

from upheld.common.params.params import Params
from upheld.feature_store.decoding.contract import Arrays, Undecodable
from upheld.feature_store.decoding.images import FORMATS, opened


class ImageCheck:
    """What `feature_store/sandbox/pool.py` makes in its workers.

    Args:
        params: reads ingest.max_media_pixels.
    """

    def __init__(self, params: Params) -> None:
        self._max_pixels = params.ingest.max_media_pixels

    def decode(self, content: bytes) -> Arrays:
        """As `check_image`."""
        return check_image(content, self._max_pixels)


def fits(answer: Arrays, max_pixels: int) -> bool:
    """Whether arrays are such as `check_image` returns: what a worker says may have been put into its mouth by a file.

    Args:
        answer: from a worker.
        max_pixels: width times height that is allowed.

    Raises:
        KeyError, TypeError, ValueError: they are far from it.
    """
    size, name = answer["size"], answer["format"]
    if len(answer) != 2 or size.dtype != np.int32 or size.shape != (2,) or name.dtype != np.uint8:
        return False
    width, height = size.tolist()
    return width > 0 and height > 0 and width * height <= max_pixels and name.tobytes() in {known.encode() for known in FORMATS}


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
        with opened(content, max_pixels) as image:
            image.load()
            name = np.frombuffer(str(image.format).encode(), np.uint8)
            return {"size": np.array(image.size, np.int32), "format": name}
    except Undecodable as error:
        if error.refused.reason == "image_bomb":
            raise Undecodable("media_too_large", error.refused.detail) from error
        raise Undecodable("media_corrupt", f"not a readable image: {error}") from error
