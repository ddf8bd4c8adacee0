"""Composites one by one, each from its own random stream, and the tables of all."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from upheld.common.files import replacing, write_json
from upheld.common.params.params import Params
from upheld.feature_store.contracts import hashing
from upheld.feature_store.logos.composites.backgrounds import Background
from upheld.feature_store.logos.composites.marks import Mark
from upheld.feature_store.logos.composites.paste import compose
from upheld.feature_store.logos.dataset import dataset
from upheld.feature_store.logos.sources import grouping


def one(number: int, given: Params, seed: int, marks: list[Mark], photos: list[Background], out: Path, making: str) -> dict[str, Any]:
    """Make composite `number`, unless it is there; what is known of it is written after its picture.

    Args:
        number: counts from 0.
        given: sections `logo_compose` and `logo_data`.
        seed: of the random stream, with `number`.
        marks, photos: to draw from.
        out: folder of the dataset.
        making: names the marks, photos, params and seed; composites of others lie beside.

    Returns:
        digest, file, width, height, and the photo's digest and hash; boxes: brand, x1, y1, x2, y2, share seen.

    Raises:
        FailedWork: the photo is gone.
    """
    part = out / "parts" / making / f"{number:07d}.json"
    if part.is_file():
        known: dict[str, Any] = json.loads(part.read_text(encoding="utf-8"))
        return known
    rng = np.random.default_rng([seed, number])
    photo = photos[rng.integers(len(photos))]
    settings = given.logo_compose
    made = compose(photo.open(given.logo_data.max_pixels), photo.boxes, _chosen(number, marks, rng, given), rng, settings)
    file = f"images/{making}/{number:07d}.jpg"
    with replacing(out / file) as partial:
        partial.write_bytes(made.jpeg)
    row = {
        "digest": hashing.of_bytes(made.jpeg),
        "file": file,
        "width": made.width,
        "height": made.height,
        "photo": photo.digest,
        "pdq": photo.pdq,
        "boxes": [[brand, *box, share] for brand, box, share in zip(made.brands, made.boxes, made.visible, strict=True)],
    }
    write_json(part, row)
    return row


def _chosen(number: int, marks: list[Mark], rng: np.random.Generator, given: Params) -> list[Mark]:
    """Marks for one composite: the brands take turns at being the first, so that each gets as many composites."""
    if rng.random() < given.logo_compose.empty_share:
        return []
    brands = sorted({mark.brand for mark in marks})
    wanted = [brands[number % len(brands)], *rng.choice(brands, int(rng.integers(given.logo_compose.max_marks)))]
    of_brand = [[mark for mark in marks if mark.brand == brand] for brand in wanted]
    return [some[rng.integers(len(some))] for some in of_brand]


def dataset_of(rows: list[dict[str, Any]], brands: set[str], out: Path, given: Params, synthetic: bool) -> dataset.Dataset:
    """Tables of composites; all on near-duplicate photos are in one split, and none is in the test split.

    Args:
        rows: of `one`.
        brands: that may occur.
        out: folder of the dataset.
        given: sections `logo_data` and seed.
        synthetic: whether any photo comes from a generator of ours.
    """
    images = pd.DataFrame(rows).drop(columns="boxes").assign(source="composite")
    photos = images[["photo", "pdq"]].drop_duplicates("photo").rename(columns={"photo": "digest"})
    group_of = photos.assign(group_id=grouping.groups(photos, given.logo_data.max_hash_distance)).set_index("digest")["group_id"]
    images["group_id"] = images["photo"].map(group_of)
    marks = [(row["digest"], *box[:5]) for row in rows for box in row["boxes"]]
    boxes = pd.DataFrame(marks, columns=["digest", "brand", *dataset.CORNERS])
    images["split"] = grouping.spread(images, boxes, {"val": given.logo_data.val_share, "test": 0.0}, f"{given.seed}/logo")
    return dataset.assemble(out, brands, images.drop_duplicates("digest"), boxes, boxes.iloc[:0], synthetic)
