"""The tables of a logo dataset; `logo_dataset` says what they mean together."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pandas as pd
import pyarrow as pa

from feature_store import digest

SPLITS: Final = ("train", "val", "test")  # the later, the more it is held out
SOURCES: Final = ("import", "outcome", "composite")
CORNERS: Final = ("x1", "y1", "x2", "y2")

IMAGES: Final = pa.schema(
    [
        pa.field("digest", pa.string(), nullable=False),  # SHA-256 of the bytes, hexadecimal: the key
        pa.field("file", pa.string()),  # null: the bytes are in the ledger's media table
        pa.field("width", pa.int32(), nullable=False),  # upright
        pa.field("height", pa.int32(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("group_id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("composite", pa.bool_(), nullable=False),  # marks pasted by the compositor: no evidence on real photos
        pa.field("pdq", pa.string()),  # perceptual hash, 64 hexadecimal digits; of a composite: its background's; null: too flat to tell
    ]
)
BOXES: Final = pa.schema(
    [
        pa.field("digest", pa.string(), nullable=False),
        pa.field("brand", pa.string(), nullable=False),
        *(pa.field(corner, pa.float64(), nullable=False) for corner in CORNERS),
        pa.field("split", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("group_id", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True)
class Dataset:
    """A logo dataset in memory: tables with the columns of IMAGES and BOXES, in order of digest."""

    folder: Path
    brands: tuple[str, ...]
    images: pd.DataFrame
    boxes: pd.DataFrame
    negatives: pd.DataFrame
    synthetic: bool

    @property
    def digest(self) -> str:
        """Digest of what the dataset says, free of where its photos lie and of how Parquet stores it."""
        said = [table.drop(columns="file", errors="ignore").to_csv(index=False) for table in (self.images, self.boxes, self.negatives)]
        return digest.of_json([self.brands, said, self.synthetic])
