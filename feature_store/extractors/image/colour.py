"""A picture's size and colours in a few numbers."""

from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from upheld.feature_store.contracts.hashing import extractor_version
from upheld.feature_store.decoding.contract import Arrays, Refused
from upheld.feature_store.decoding.images import Picture, decode_within
from upheld.feature_store.extractors.contract import Extractor, Kind

LONGEST = 128  # statistics of a picture shrunk to this differ from the whole one's in the third digit
NUM_HUES = 12  # 30 degrees each, the first from red to orange
CHANNELS = ("red", "green", "blue")
NUMBERS = (
    *(f"{channel}_{moment}" for moment in ("mean", "std") for channel in CHANNELS),
    *("brightness_mean", "brightness_std", "saturation_mean", "colourfulness"),
)


class Colour(Extractor):
    """Width and height (upright, of the file) in pixels; channels, brightness and saturation in [0, 1]; hues as shares of the colour."""

    name: ClassVar[str] = "colour"
    kind: ClassVar[Kind] = "image"
    columns: ClassVar[pa.Schema] = pa.schema(
        [
            ("width", pa.int32()),
            ("height", pa.int32()),
            *((name, pa.float32()) for name in NUMBERS),
            ("hue_shares", pa.list_(pa.float32(), NUM_HUES)),
        ]
    )

    @cached_property
    def version(self) -> str:
        """Number of the code's version, digest of its constants."""
        return extractor_version(1, {"longest": LONGEST, "hues": NUM_HUES})

    def decode(self, content: bytes) -> Arrays:
        """Measure here, where decoding goes on: `size` int32 (2,), `numbers` float32 in the order of NUMBERS, `hues` float32 (12,).

        Raises:
            Undecodable: as `images.opened`.
        """
        picture, width, height = decode_within(content, LONGEST, self.params.ingest.max_media_pixels)
        return {"size": np.array([width, height], np.int32), "numbers": numbers(picture), "hues": hue_shares(picture)}

    def extract_one(self, arrays: Arrays) -> dict[str, Any] | Refused:
        """The measurements under their columns' names."""
        width, height = arrays["size"].tolist()
        measured = dict(zip(NUMBERS, arrays["numbers"].tolist(), strict=True))
        return {"width": width, "height": height, **measured, "hue_shares": arrays["hues"]}


def numbers(picture: Picture) -> NDArray[np.float32]:
    """Mean and deviation of each channel and of brightness, mean saturation, colourfulness; pixels scaled to [0, 1].

    Sources: brightness is luma of ITU-R BT.601; saturation of the HSV model; colourfulness of Hasler and Süsstrunk, "Measuring
    colourfulness in natural images", 2003: sqrt(s²_rg + s²_yb) + 0.3 sqrt(m²_rg + m²_yb).
    """
    rgb_N3 = picture.reshape(-1, 3) / 255
    red, green, blue = rgb_N3.T
    luma = 0.299 * red + 0.587 * green + 0.114 * blue  # no matrix product: its threads would fight over a worker's processor
    top, low = rgb_N3.max(1), rgb_N3.min(1)
    saturation = np.divide(top - low, top, out=np.zeros_like(top), where=top > 0)
    opponent_2N = np.stack([red - green, (red + green) / 2 - blue])
    colourfulness = np.hypot(*opponent_2N.std(1)) + 0.3 * np.hypot(*opponent_2N.mean(1))
    values = [*rgb_N3.mean(0), *rgb_N3.std(0), luma.mean(), luma.std(), saturation.mean(), colourfulness]
    return np.array(values, np.float32)


def hue_shares(picture: Picture) -> NDArray[np.float32]:
    """Share of each twelfth of the colour wheel, pixels weighed by chroma; all 0 in a grey picture. Hue as in the HSV model."""
    rgb_N3 = picture.reshape(-1, 3).astype(np.float64)
    chroma = np.ptp(rgb_N3, 1)
    red, green, blue = rgb_N3[chroma > 0].T
    chroma = chroma[chroma > 0]
    top = np.maximum(np.maximum(red, green), blue)
    sixths = np.select(
        [top == red, top == green], [((green - blue) / chroma) % 6, (blue - red) / chroma + 2], default=(red - green) / chroma + 4
    )
    shares = np.bincount((sixths * NUM_HUES / 6).astype(int) % NUM_HUES, chroma, NUM_HUES)
    return np.asarray(shares / max(shares.sum(), 1e-9), np.float32)
