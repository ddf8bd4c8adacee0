"""A logo dataset: photos, the boxes of the brand marks on them, and the regions that were taken for a mark and are none.

A folder with
  images.parquet     one row a photo (IMAGES). A photo without boxes is a photo without logos: it counts, as what must not alarm.
  boxes.parquet      one row a mark (BOXES).
  negatives.parquet  the same columns: regions that a reviewer called wrong for `brand`. They are hard negatives, never positives.
  dataset.json       `brands`: sorted by name, the place in the list is the class number; `counts`; `synthetic`; `digest`.

A photo is named by the SHA-256 of its bytes. These stay where they are: `file` says where (absolute, or relative to the folder), null
says in the store's ledger, and `contents` reads either. Pixels count from the upper left corner of the photo *as a viewer shows it*, that
is after its EXIF rotation (`photos.upright`); a box covers x1 ≤ x < x2 and y1 ≤ y < y2, with 0 ≤ x1 < x2 ≤ width and the same for y.
Near-duplicates, and all composites on one background, share a group_id, and a group is in one split (train, val, test).
`grouping.merge` puts several datasets together and keeps that true.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from upheld.common.errors import BadUse, FailedWork
from upheld.common.files import replacing, write_json
from upheld.feature_store.contracts import hashing
from upheld.feature_store.logos.dataset import boxes as box_measures

SPLITS: Final = ("train", "val", "test")  # the later, the more it is held out
SOURCES: Final = ("import", "outcome", "composite")
CORNERS: Final = box_measures.CORNERS

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
MARKS: Final = ("dataset.json", "making.json")  # a folder with one of these is ours: finished, or being made
_TABLES: Final = {"images": IMAGES, "boxes": BOXES, "negatives": BOXES}


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
        tables = [table.drop(columns="file", errors="ignore").to_csv(index=False) for table in (self.images, self.boxes, self.negatives)]
        return hashing.of_json([self.brands, tables, self.synthetic])


@dataclass(frozen=True)
class Result:
    """A dataset that was written, and the report on what became of all that it was made of."""

    dataset: Dataset
    report: dict[str, Any]


def assemble(
    folder: Path, brands: Iterable[str], images: pd.DataFrame, boxes: pd.DataFrame, negatives: pd.DataFrame, synthetic: bool
) -> Dataset:
    """Put tables together, in order and with every column of the contract.

    Args:
        folder: where the dataset is or will be; relative names of photos count from it.
        brands: every brand that may occur; those without a box may be among them.
        images: columns of IMAGES, `composite` aside.
        boxes, negatives: digest, brand, x1, y1, x2, y2; split, source and group_id are their photo's.
        synthetic: True if any photo comes from a generator of ours.
    """
    pictures = images.assign(composite=images["source"] == "composite").sort_values("digest", ignore_index=True)
    of_photo = pictures.set_index("digest")[["split", "source", "group_id"]]
    full = [
        table[["digest", "brand", *CORNERS]].join(of_photo, on="digest").sort_values(["digest", "brand", *CORNERS], ignore_index=True)
        for table in (boxes, negatives)
    ]
    return Dataset(folder, tuple(sorted(set(brands))), pictures[IMAGES.names], full[0][BOXES.names], full[1][BOXES.names], synthetic)


def refuse_others_folder(out: Path) -> None:
    """Let nothing be overwritten that is no logo dataset, finished or begun.

    Raises:
        BadUse: `out` is a file, or a folder that holds something and none of MARKS.
    """
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not any((out / mark).is_file() for mark in MARKS)):
        raise BadUse(f"--out {out}: holds something that is no logo dataset; name an empty or a new folder")


def write(dataset: Dataset) -> None:
    """Write the tables into `dataset.folder`, and dataset.json last: without it, or with another digest in it, nothing reads them."""
    for name, schema in _TABLES.items():
        table = pa.Table.from_pandas(getattr(dataset, name), schema, preserve_index=False)
        with replacing(dataset.folder / f"{name}.parquet") as partial:
            pq.write_table(table, partial, compression="zstd")
    about = {"brands": dataset.brands, "counts": counts(dataset), "synthetic": dataset.synthetic, "digest": dataset.digest}
    write_json(dataset.folder / "dataset.json", about)


def read(folder: Path) -> Dataset:
    """Read a dataset back.

    Raises:
        BadUse: `folder` holds none, or its tables are not those that dataset.json was written with.
    """
    path = folder / "dataset.json"
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        tables = {name: pq.read_table(folder / f"{name}.parquet", schema=schema).to_pandas() for name, schema in _TABLES.items()}
        dataset = Dataset(folder, tuple(about["brands"]), **tables, synthetic=about["synthetic"])
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise BadUse(f"{path}: no logo dataset here ({error}); `upheld logo import` and `upheld logo compose` make one") from error
    if dataset.digest != about["digest"]:
        raise BadUse(f"{path}: the tables beside it are not the ones it was written with; make the dataset anew")
    return dataset


def counts(dataset: Dataset) -> dict[str, Any]:
    """Photos, photos without logos, boxes and negatives of each split, and boxes of each brand."""
    with_boxes = dataset.images["digest"].isin(dataset.boxes["digest"])
    of_split = {
        split: {
            "photos": int((dataset.images["split"] == split).sum()),
            "photos_without_logos": int(((dataset.images["split"] == split) & ~with_boxes).sum()),
            "boxes": int((dataset.boxes["split"] == split).sum()),
            "negatives": int((dataset.negatives["split"] == split).sum()),
        }
        for split in SPLITS
    }
    of_brand = dataset.boxes["brand"].value_counts()
    return {"splits": of_split, "brands": {brand: int(of_brand.get(brand, 0)) for brand in dataset.brands}}


def contents(dataset: Dataset, digests: Iterable[str], store: Path | None = None) -> Iterator[tuple[str, bytes]]:
    """Bytes of photos, those in files first.

    Args:
        dataset: says where each lies.
        digests: wanted photos, each in the dataset.
        store: folder with the ledger; needed for photos without a file.

    Yields:
        (digest, bytes), once each.

    Raises:
        FailedWork: a file is gone or holds other bytes than it did, or the ledger no longer holds a photo.
    """
    rows = dataset.images.set_index("digest").loc[sorted(set(digests))]
    files = rows["file"].dropna()
    for name, file in files.items():
        yield str(name), checked_bytes(dataset.folder / file, str(name))
    yield from from_ledger(store, sorted(set(map(str, rows.index)) - set(map(str, files.index))))


def checked_bytes(path: Path, name: str) -> bytes:
    """Bytes of a photo's file; `name` is the SHA-256 that they had when the photo was accepted.

    Raises:
        FailedWork: the file is gone, or holds other bytes.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FailedWork(f"{path}: cannot be read ({error.strerror}); the logo dataset refers to it, put it back or import anew") from error
    if hashing.of_bytes(content) != name:
        raise FailedWork(f"{path}: is not the photo that the logo dataset was made with; put that back or import anew")
    return content


def from_ledger(store: Path | None, digests: list[str]) -> Iterator[tuple[str, bytes]]:
    """Photos of the ledger by their digests, each once: (digest, bytes).

    Raises:
        FailedWork: no store is named, or its ledger lacks a photo.
    """
    if not digests:
        return
    if store is None:
        raise FailedWork(f"photo {digests[0]}: lies in the ledger and no store is named; name it with --store")
    from upheld.feature_store.ledger.ledger import Ledger  # LanceDB: only where a photo lies in it

    found = 0
    for name, content in Ledger(store).media_bytes(digests):
        found += 1
        yield name, content
    if found < len(digests):
        raise FailedWork(f"{store}: the ledger holds {found} of {len(digests)} wanted photos; make the dataset of its outcomes anew")
