"""Photos of logo datasets: opened within bounds, turned as a viewer shows them, and hashed by what they show."""

import io
import warnings
from typing import Final

import numpy as np
import pdqhash
from PIL import Image, ImageOps, UnidentifiedImageError

# Decoders that we let near foreign bytes; Pillow knows dozens more.
FORMATS: Final = ("BMP", "JPEG", "PNG", "WEBP")
# Below it PDQ has too little texture to go by. Source: Facebook, ThreatExchange, "The TMK+PDQF Video-Hashing Algorithm and the PDQ
# Image-Hashing Algorithm" (2019), section "PDQ quality metric": discard hashes of quality 49 and less.
MIN_PDQ_QUALITY: Final = 50


class Unreadable(ValueError):
    """A photo cannot be used.

    Args:
        reason: `image_too_large` or `image_corrupt`.
        detail: what was found, in one line.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


def upright(content: bytes, max_pixels: int) -> Image.Image:
    """Decode a photo, whole, and turn it by its EXIF rotation.

    Args:
        content: bytes of a BMP, JPEG, PNG or WebP file.
        max_pixels: a larger photo is refused by its header, before any pixel is made.

    Returns:
        an RGB image; what is transparent in the file lies on white.

    Raises:
        Unreadable: too large, truncated, or no image of a known format.
    """
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(content), formats=FORMATS) as image:
            warnings.simplefilter("ignore")  # of odd metadata; what counts is whether it decodes within bounds
            if image.width * image.height > max_pixels:
                raise Unreadable("image_too_large", f"{image.width} x {image.height} pixels, at most {max_pixels}")
            return _flat(ImageOps.exif_transpose(image))
    except Image.DecompressionBombError as error:
        raise Unreadable("image_too_large", str(error)) from error
    except Unreadable:
        raise
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, OverflowError) as error:
        raise Unreadable("image_corrupt", f"not a readable image: {type(error).__name__}") from error


def _flat(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    layered = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layered.size, "white"), layered).convert("RGB")


def pdq(image: Image.Image) -> str | None:
    """PDQ hash of an RGB image, 64 hexadecimal digits, or None where it is too flat for one."""
    bits, quality = pdqhash.compute(np.asarray(image))
    return np.packbits(bits.astype(np.uint8)).tobytes().hex() if quality >= MIN_PDQ_QUALITY else None
