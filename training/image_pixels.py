"""From the bytes of an image to the pixels that a network reads."""

import io

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

Picture = NDArray[np.uint8]  # (H, W, 3), RGB

MIN_CROP_SHARE = 0.7  # of each side: logos and drawn text sit at borders, harder crops would cut what the label is about
JITTER = 0.2  # relative change of brightness and contrast


def decode(content: bytes, size: int) -> Picture:
    """Decode an image to a square of `size` pixels.

    The whole picture is squeezed into the square: a centre crop would lose what sits at a border. JPEGs are decoded at a
    fraction of their size where that suffices (`draft`), twice as fast.

    Args:
        content: the file's bytes; ingest has checked that they decode.
        size: side in pixels.

    Returns:
        uint8 (size, size, 3), RGB.
    """
    with Image.open(io.BytesIO(content)) as image:
        image.draft("RGB", (size, size))
        return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR, reducing_gap=2.0), np.uint8)


def augmented(picture: Picture, random: np.random.Generator) -> Picture:
    """A random crop of a square picture at its old size, its brightness and contrast changed a little.

    Pictures are not mirrored: drawn text and logos do not survive it.
    """
    size = picture.shape[0]
    side = size * random.uniform(MIN_CROP_SHARE, 1)
    left, top = random.uniform(0, size - side, 2)
    image = Image.fromarray(picture).resize((size, size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast):
        image = enhance(image).enhance(1 + random.uniform(-JITTER, JITTER))
    return np.asarray(image, np.uint8)


def to_tensor(pictures_NHWC: Picture, mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    """Scale uint8 (N, H, W, 3) pictures to float32 (N, 3, H, W) with the given channel means and deviations of [0, 1] values."""
    pixels_NCHW = torch.from_numpy(pictures_NHWC).permute(0, 3, 1, 2).float().div_(255)
    shape = (1, len(mean), 1, 1)
    return (pixels_NCHW - torch.tensor(mean).reshape(shape)) / torch.tensor(std).reshape(shape)
