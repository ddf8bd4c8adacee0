"""Pictures for people: what the detector found, what it missed and what it took for a mark, side by side."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from upheld.evaluation.logos.matches import match
from upheld.feature_store.logos.dataset.dataset import CORNERS

SIDE: Final = 200  # pixels of a tile
LINE: Final = 18  # and of the line below it
GAP: Final = 8  # pixels between photos
COLUMNS: Final = 5
# Kind of tile -> colour of its frame (Okabe & Ito 2008, told apart by colour-blind readers) and width; the caption says it in words too.
KINDS: Final = {"found": ("#009E73", 3), "missed": ("#E69F00", 5), "false alarm": ("#D55E00", 5)}


class Tile(NamedTuple):
    """A photo with one box: `kind` is a key of KINDS, the box in pixels of the photo."""

    kind: str
    image: str
    caption: str
    box: tuple[float, float, float, float]


def choose(marks: pd.DataFrame, finds: pd.DataFrame, threshold: float, per_kind: int, seed: int) -> list[Tile]:
    """Some detections, misses and false alarms: the surest of the wrong, a random draw of the others.

    Args:
        marks: image, brand, x1, y1, x2, y2.
        finds: the same and confidence.
        threshold: detections below do not count.
        per_kind: tiles of each kind at most.
        seed: of the draw.
    """
    kept = match(marks, finds[finds["confidence"] >= threshold])
    hits, alarms = kept[kept["mark"] >= 0], kept[kept["mark"] < 0].nlargest(per_kind, "confidence")
    missed = marks.reset_index(drop=True).drop(index=hits["mark"].tolist())
    random = np.random.default_rng(seed)
    some = [table.iloc[np.sort(random.permutation(len(table))[:per_kind])] for table in (hits, missed)]
    kinds = [("found", some[0]), ("missed", some[1]), ("false alarm", alarms)]
    return [
        Tile(kind, row["image"], row["brand"] + (f" {row['confidence']:.2f}" if kind != "missed" else ""), tuple(row[list(CORNERS)]))
        for kind, table in kinds
        for _, row in table.iterrows()
    ]


def draw(tiles: Sequence[Tile], photos: Mapping[str, Image.Image]) -> Image.Image:
    """A sheet of tiles, COLUMNS a row.

    Args:
        tiles: at least one.
        photos: upright RGB photo of every tile.
    """
    rows = -(-len(tiles) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * SIDE, rows * (SIDE + LINE)), "white")
    for number, tile in enumerate(tiles):
        photo = photos[tile.image]
        factor = (SIDE - GAP) / max(photo.size)
        small = photo.resize((max(1, round(photo.width * factor)), max(1, round(photo.height * factor))))
        colour, width = KINDS[tile.kind]
        ImageDraw.Draw(small).rectangle([corner * factor for corner in tile.box], outline=colour, width=width)
        drawn = Image.new("RGB", (SIDE, SIDE + LINE), "white")
        drawn.paste(small, ((SIDE - small.width) // 2, SIDE - GAP // 2 - small.height))
        pen, text = ImageDraw.Draw(drawn), f"{tile.kind}: {tile.caption}"
        while pen.textlength(text) > SIDE - GAP:  # one line below the photo, cut where the tile ends
            text = text.removesuffix("…")[:-1] + "…"
        pen.text((GAP // 2, SIDE), text, fill="black")
        sheet.paste(drawn, (number % COLUMNS * SIDE, number // COLUMNS * (SIDE + LINE)))
    return sheet
