"""Pictures for tests: smooth blobs of colour, which survive compression as photographs do, in any file format."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def blobs(seed: int, width: int = 640, height: int = 480) -> Image.Image:
    """Random colours on a coarse grid, blown up smoothly, with a few hard-edged boxes."""
    random = np.random.default_rng(seed)
    image = Image.fromarray(random.integers(0, 256, (6, 8, 3), np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    for _ in range(4):
        left, top = (int(random.integers(0, side * 3 // 4)) for side in (width, height))
        image.paste(tuple(int(value) for value in random.integers(0, 256, 3)), (left, top, left + width // 5, top + height // 5))
    return image


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    """The file's bytes."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def as_numbers(image: Image.Image) -> NDArray[np.float64]:
    return np.asarray(image.convert("RGB"), np.float64)
