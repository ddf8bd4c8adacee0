"""Photos of which an import has several copies: one is taken, if all of them show the same marks."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from upheld.feature_store.logos.dataset.checks import same_marks
from upheld.feature_store.logos.dataset.dataset import CORNERS
from upheld.feature_store.logos.sources.inspection import Seen
from upheld.feature_store.logos.sources.source import Photo, Source, most_held_out

BOX = ["brand", *CORNERS]


@dataclass(frozen=True)
class Opened:
    """A photo that decodes: what the dataset says of it, and what was seen."""

    photo: Photo
    seen: Seen


def one_of_copies(source: Source, photos: list[Opened], boxes: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, int]]:
    """Take each photo once.

    Args:
        source: notes what is refused.
        photos: that decode.
        boxes: file, position, brand, x1, y1, x2, y2 of the boxes on them.

    Returns:
        one photo for each digest (digest, file, width, height, split, pdq, source), its boxes once each (digest and BOX), and how many
        photos and boxes were duplicates.
    """
    of_file: dict[str, list[tuple[Any, ...]]] = {}
    for row in boxes.sort_values(BOX).drop_duplicates(["file", *BOX]).itertuples():
        of_file.setdefault(str(row.file), []).append((row.brand, (row.x1, row.y1, row.x2, row.y2)))
    taken, rows = [], []
    for name, copies in sorted(_by_digest(photos).items()):
        sets = [of_file.get(str(copy.photo.file), []) for copy in copies]
        if not all(same_marks(sets[0], marks) for marks in sets):
            _refuse_copies(source, copies, boxes)
            continue
        taken.append(_row(copies))
        rows += [(name, brand, *corners) for brand, corners in sets[0]]
    images = pd.DataFrame(taken, columns=["digest", "file", "width", "height", "split", "pdq", "source"])
    kept = pd.DataFrame(rows, columns=["digest", *BOX])
    refused = Counter(refusal.kind for refusal in source.refused if refusal.reason == "copies_disagree")
    return images, kept, {"photo": len(photos) - refused["photo"] - len(images), "box": len(boxes) - refused["box"] - len(kept)}


def _by_digest(photos: Iterable[Opened]) -> dict[str, list[Opened]]:
    found: dict[str, list[Opened]] = {}
    for photo in sorted(photos, key=lambda photo: str(photo.photo.file)):
        found.setdefault(photo.seen.digest, []).append(photo)
    return found


def _refuse_copies(source: Source, copies: list[Opened], boxes: pd.DataFrame) -> None:
    others = ", ".join(str(copy.photo.file) for copy in copies)
    for copy in copies:
        file = copy.photo.file
        source.refuse("photo", file, str(file), "copies_disagree", f"the same bytes with other boxes: {others}")
        for position in boxes.loc[boxes["file"] == file, "position"]:
            source.refuse("box", file, position, "copies_disagree", "its photo occurs again with other boxes")


def _row(copies: list[Opened]) -> tuple[Any, ...]:
    """What is known of a photo that lies in one or several files; of their splits the most held-out one."""
    first = copies[0]
    split, seen = most_held_out(copy.photo.split for copy in copies), first.seen
    return seen.digest, str(first.photo.file.resolve()), seen.width, seen.height, split, seen.pdq, "import"
