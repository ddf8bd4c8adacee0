"""Photos from anywhere are looked at in confined workers: what is hostile is refused by name, and only numbers come back."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
import pdqhash

from upheld.common.files import ordinary_bytes
from upheld.common.params.logos import LogoData
from upheld.feature_store.contracts import hashing
from upheld.feature_store.decoding.contract import Arrays, Refused
from upheld.feature_store.decoding.images import decode_within
from upheld.feature_store.logos.dataset.photos import MIN_PDQ_QUALITY, unreadable
from upheld.feature_store.sandbox.pool import DecodePool, num_cpus

_DECODER: Final = "upheld.feature_store.logos.sources.inspection:PhotoDecoder"
_TIMEOUT_S: Final = 30.0  # of one photo; one of 50 million pixels takes two
_AHEAD: Final = 8  # photos in memory
_HASHED_PX: Final = 512  # the PDQ paper, section 3.1, shrinks to this side before anything else
_BYTES_PER_PIXEL: Final = 4  # of a file: more than a BMP with transparency holds nothing that is seen

Key = TypeVar("Key")


@dataclass(frozen=True)
class Seen:
    """A photo that decodes: SHA-256 of its bytes, upright width and height in pixels, and its PDQ hash or None where it is too flat."""

    digest: str
    width: int
    height: int
    pdq: str | None


class PhotoDecoder:
    """The decoder that `feature_store/sandbox/pool.py` makes in its workers."""

    def __init__(self, rules: LogoData) -> None:
        self._max_pixels = rules.max_pixels

    def decode(self, content: bytes) -> Arrays:
        """Decode one photo; raises as `images.decode_within`.

        Returns:
            size: int32 (2,), upright width and height; pdq: uint8 (32,); quality: int32 (), of the hash, 0 to 100.
        """
        found = decode_within(content, _HASHED_PX, self._max_pixels)
        bits, quality = pdqhash.compute(found.picture)
        size = np.array([found.width, found.height], np.int32)
        return {"size": size, "pdq": np.packbits(bits.astype(bool)), "quality": np.array(quality, np.int32)}


def inspect_photos(contents: Iterable[tuple[Key, bytes | Refused]], rules: LogoData) -> Iterator[tuple[Key, Seen | Refused]]:
    """Decode photos in workers, further ones while the caller is busy with those it got.

    Args:
        contents: what the caller calls a photo, and its bytes or why there are none; taken as they are needed.

    Yields:
        each photo in its order, as it was seen or with the reason why it cannot be used: `image_too_large`, `image_corrupt`, or the one
        that came with it.
    """

    def digested() -> Iterator[tuple[tuple[Key, str | None], bytes | Refused]]:
        for key, content in contents:
            yield (key, None if isinstance(content, Refused) else hashing.of_bytes(content)), content

    with DecodePool(_DECODER, rules, _TIMEOUT_S, num_cpus()) as pool:
        for (key, digest), answer in pool.decode_named(digested(), _AHEAD):
            if digest is not None:
                yield key, _checked(digest, answer, rules)
            elif isinstance(answer, Refused):
                yield key, answer


def photo_bytes(path: Path, rules: LogoData) -> bytes | Refused:
    """Bytes of a photo's file, or `photo_missing` (no ordinary file, or unreadable) or `image_too_large` (more than pixels explain)."""
    try:
        return ordinary_bytes(path, _BYTES_PER_PIXEL * rules.max_pixels)
    except ValueError as error:
        return Refused("image_too_large", str(error))
    except OSError as error:
        return Refused("photo_missing", f"cannot be read: {error.strerror}")


def _checked(name: str, answer: Arrays | Refused, rules: LogoData) -> Seen | Refused:
    """What a worker says, if it makes sense: its decoder may have been taken over by what it read."""
    if isinstance(answer, Refused):
        return unreadable(answer)
    try:
        size, bits, quality = (answer[part] for part in ("size", "pdq", "quality"))
        width, height = size.tolist()
        fits = size.dtype == np.int32 and min(width, height) > 0 and width * height <= rules.max_pixels
    except (KeyError, TypeError, ValueError):
        fits = False
    if not fits or bits.dtype != np.uint8 or bits.shape != (32,) or quality.shape != ():
        return Refused("image_corrupt", "its decoder spoke nonsense")
    return Seen(name, width, height, bits.tobytes().hex() if quality >= MIN_PDQ_QUALITY else None)
