"""A small world of logos, drawn by us: fictitious brands on generated pictures, with exact boxes, for demos and tests.

It stands in for labelled photos: its splits are train, val and test, and whatever is measured on it is synthetic.
"""

import io
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from PIL import Image
from rich.progress import track

from upheld.common.files import replacing
from upheld.common.params.params import Params
from upheld.common.terminal import console
from upheld.feature_store.contracts import hashing
from upheld.feature_store.logos.composites.marks import OURS, load
from upheld.feature_store.logos.composites.paste import compose
from upheld.feature_store.logos.dataset import dataset as logo_dataset
from upheld.feature_store.logos.dataset.photos import pdq
from upheld.feature_store.logos.sources import grouping
from upheld.feature_store.sample_world import pictures
from upheld.feature_store.sample_world.base import stream

SIDE_PX: Final = 320  # longer side of a picture
MARK_SHARE: Final = (0.15, 0.6)  # of a picture's shorter side: on small pictures smaller marks show nothing of their shape
_KINDS: Final = ("scene", "sunset", "sign")


def sample(out: Path, num_photos: int, given: Params, seed: int) -> logo_dataset.Dataset:
    """Make `num_photos` pictures, most of them with one to three marks of our brands, and write them as a logo dataset.

    Args:
        out: folder to write; an earlier logo dataset there is replaced.
        num_photos: at least 1; 200 are made in some seconds.
        given: sections `logo_compose` (how marks are pasted) and `logo_data` (splits).
        seed: picture i depends on the seed and i alone.

    Returns:
        the dataset; it says that it is synthetic.

    Raises:
        BadUse: `out` holds something else.
    """
    logo_dataset.refuse_others_folder(out)
    marks, _ = load(OURS)
    settings = given.logo_compose.model_copy(update={"mark_share": MARK_SHARE})
    rows: list[dict[str, Any]] = []
    boxes: list[tuple[Any, ...]] = []
    for number in track(range(num_photos), "logo world", console=console(), transient=True):
        rng = np.random.default_rng([seed, number])
        background = _background(seed, number, rng)
        empty = rng.random() < settings.empty_share
        wanted = [] if empty else rng.choice(len(marks), int(rng.integers(1, settings.max_marks + 1)), replace=False).tolist()
        made = compose(background, [], [marks[place] for place in wanted], rng, settings)
        file = f"images/{number:05d}.jpg"
        with replacing(out / file) as partial:
            partial.write_bytes(made.jpeg)
        name = hashing.of_bytes(made.jpeg)
        rows.append({"digest": name, "file": file, "width": made.width, "height": made.height, "pdq": pdq(background)})
        boxes += [(name, brand, *box) for brand, box in zip(made.brands, made.boxes, strict=True)]
    images = pd.DataFrame(rows).assign(source="import").drop_duplicates("digest", ignore_index=True)
    drawn = pd.DataFrame(boxes, columns=["digest", "brand", *logo_dataset.CORNERS])
    images["group_id"] = grouping.groups(images, given.logo_data.max_hash_distance)
    images["split"] = grouping.spread(images, drawn, given.logo_data.shares, f"{seed}/logo")
    dataset = logo_dataset.assemble(out, {mark.brand for mark in marks}, images, drawn, drawn.iloc[:0], synthetic=True)
    logo_dataset.write(dataset)
    return dataset


def _background(seed: int, number: int, rng: np.random.Generator) -> Image.Image:
    """A picture of the sample world, enlarged, under an uneven texture: without it every picture would be flat and clean."""
    drawn = pictures.draw(_KINDS[number % len(_KINDS)], stream(seed, "logo", number))
    with Image.open(io.BytesIO(drawn), formats=["JPEG"]) as small:
        scale = SIDE_PX / max(small.size)
        picture = small.convert("RGB").resize((round(small.width * scale), round(small.height * scale)), Image.Resampling.BICUBIC)
    texture = np.zeros((picture.height, picture.width), dtype=np.float32)
    for cells in (6, 24):
        coarse = Image.fromarray(rng.normal(0, 14, (cells, cells)).astype(np.float32))
        texture += np.asarray(coarse.resize(picture.size, Image.Resampling.BICUBIC))
    return Image.fromarray(np.clip(np.asarray(picture) + texture[..., None], 0, 255).astype(np.uint8))
