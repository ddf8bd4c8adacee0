"""Perceptual hashes: pictures that look the same differ in few bits, whatever their file."""

from functools import cached_property
from typing import Any, ClassVar

import imagehash
import numpy as np
import pdqhash
import pyarrow as pa
import scipy.fftpack  # noqa: F401  imagehash imports it at its first call, under the decoding worker's bound of memory
from PIL import Image

from upheld.feature_store.contracts.hashing import extractor_version
from upheld.feature_store.decoding.contract import Arrays, Refused
from upheld.feature_store.decoding.images import decode_within
from upheld.feature_store.extractors.contract import Extractor, Kind

# Both hashes look at 64 pixels or fewer; from 512 on the file's own size changes a bit or two (measured). Source: the PDQ paper,
# "The TMK+PDQF Video-Hashing Algorithm and the PDQ Image-Hashing Algorithm", section 3.1, shrinks to 512 before anything else.
LONGEST = 512


class ImageHash(Extractor):
    """pHash (64 bits of a cosine transform; distances to about 10 are copies) and PDQ (256 bits; to 31, where quality is 50 or more)."""

    name: ClassVar[str] = "image_hash"
    kind: ClassVar[Kind] = "image"
    columns: ClassVar[pa.Schema] = pa.schema([("phash", pa.string()), ("pdq", pa.string()), ("pdq_quality", pa.int32())])

    @cached_property
    def version(self) -> str:
        """Number of the code's version, digest of the side that pictures are shrunk to."""
        return extractor_version(1, {"longest": LONGEST})

    def decode(self, content: bytes) -> Arrays:
        """Hash here, where decoding goes on: `phash` 8 bytes, `pdq` 32 bytes, `quality` one number from 0 to 100.

        Raises:
            Undecodable: as `images.opened`.
        """
        picture = decode_within(content, LONGEST, self.params.ingest.max_media_pixels).picture
        bits, quality = pdqhash.compute(picture)
        phash = imagehash.phash(Image.fromarray(picture)).hash
        return {"phash": np.packbits(phash), "pdq": np.packbits(bits.astype(bool)), "quality": np.array([quality], np.int32)}

    def extract_one(self, arrays: Arrays) -> dict[str, Any] | Refused:
        """The hashes in hexadecimal, most significant bit first, as their own libraries write them."""
        return {"phash": arrays["phash"].tobytes().hex(), "pdq": arrays["pdq"].tobytes().hex(), "pdq_quality": int(arrays["quality"][0])}
