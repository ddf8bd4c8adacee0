"""Photos of logo datasets as pictures: decoded as everywhere else, and hashed by what they show."""

from typing import Final

import numpy as np
import pdqhash
from PIL import Image

from upheld.feature_store.decoding.contract import Refused, Undecodable
from upheld.feature_store.decoding.images import Picture, decode_whole

# Below it PDQ has too little texture to go by. Source: Facebook, ThreatExchange, "The TMK+PDQF Video-Hashing Algorithm and the PDQ
# Image-Hashing Algorithm" (2019), section "PDQ quality metric": discard hashes of quality 49 and less.
MIN_PDQ_QUALITY: Final = 50
_TOO_LARGE: Final = ("image_bomb", "decode_memory")


def upright(content: bytes, max_pixels: int) -> Image.Image:
    """Decode a photo, whole and turned by its EXIF rotation, in this process: for photos that `inspect_photos` has let a worker decode.

    Of an animation the first frame is the photo. A photo of more than `max_pixels` is refused by its header, before any pixel is made.

    Returns:
        an RGB image; what is transparent in the file lies on white.

    Raises:
        Undecodable: `image_too_large` or `image_corrupt`.
    """
    try:
        return Image.fromarray(decode_whole(content, max_pixels))
    except Undecodable as error:
        why = unreadable(error.refused)
        raise Undecodable(why.reason, why.detail) from error


def unreadable(refused: Refused) -> Refused:
    """What a decoder's refusal is called in a quarantine: `image_too_large`, or `image_corrupt` with the decoder's own reason."""
    if refused.reason in _TOO_LARGE:
        return Refused("image_too_large", refused.detail)
    return Refused("image_corrupt", f"not a readable image: {refused.reason}: {refused.detail}")


def pdq(image: Image.Image | Picture) -> str | None:
    """PDQ hash of an RGB image, 64 hexadecimal digits, or None where it is too flat for one."""
    bits, quality = pdqhash.compute(np.asarray(image))
    return np.packbits(bits.astype(np.uint8)).tobytes().hex() if quality >= MIN_PDQ_QUALITY else None
