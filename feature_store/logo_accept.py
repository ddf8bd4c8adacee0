"""Which photos and boxes of a dataset are taken: photos are decoded, boxes judged, copies found; nothing is skipped unseen."""

from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

from feature_store import digest, logo_image
from feature_store.logo_checks import Rejected, judge_box, judge_size, same_marks
from feature_store.logo_dataset import CORNERS, SPLITS
from feature_store.logo_source import Photo, Source
from feature_store.params_logo import LogoData

_PHOTOS_AT_ONCE = 32
_BOX = ["brand", *CORNERS]


@dataclass(frozen=True)
class Opened:
    """A photo that decodes: what the dataset says of it."""

    photo: Photo
    digest: str
    width: int
    height: int
    pdq: str | None


@dataclass
class Accepted:
    """Tables of what was taken, and the account: rows = accepted + duplicate + quarantined, of photos and of boxes."""

    images: pd.DataFrame  # digest, file, width, height, split (or null), pdq, source
    boxes: pd.DataFrame  # digest, brand, x1, y1, x2, y2
    quarantine: pd.DataFrame  # kind, file, position, reason, detail
    account: dict[str, Any]


def accept(source: Source, rules: LogoData, watch: Any = iter) -> Accepted:
    """Judge what a reader found.

    A photo all of whose boxes are refused is refused too: as a photo without logos it would teach the opposite of what was meant. Of
    several files with the same bytes one is taken, with its boxes, and the others are duplicates, if all show the same marks up to how
    a hand draws them; if not, none is taken.

    Args:
        source: as read.
        rules: section `logo_data`.
        watch: passes photos on as they are opened, for a progress bar.

    Returns:
        what was taken, what was not, and the account.
    """
    rows_in = {kind: sum(refusal.kind == kind for refusal in source.refused) for kind in ("photo", "box")}
    rows_in = {"photo": rows_in["photo"] + len(source.photos), "box": rows_in["box"] + len(source.marks)}
    opened = {photo.photo.file: photo for photo in watch(_open_all(source, rules))}
    boxes, num_clipped = _judge_boxes(source, opened, rules)
    photos = _with_boxes(source, opened, boxes)
    images, boxes, duplicates = _one_of_copies(source, photos, boxes)
    quarantine = pd.DataFrame([vars(refusal) for refusal in source.refused], columns=["kind", "file", "position", "reason", "detail"])
    account: dict[str, Any] = {"boxes_clipped": num_clipped, "photos_without_logos": int((~images["digest"].isin(boxes["digest"])).sum())}
    for kind, accepted in (("photo", len(images)), ("box", len(boxes))):
        reasons = quarantine.loc[quarantine["kind"] == kind, "reason"].value_counts().sort_index()
        num_reasons = {str(reason): int(times) for reason, times in reasons.items()}
        counted = {"rows": rows_in[kind], "accepted": accepted, "duplicate": duplicates[kind], "quarantined": int(reasons.sum())}
        assert counted["rows"] == accepted + duplicates[kind] + counted["quarantined"], counted
        account[{"photo": "photos", "box": "boxes"}[kind]] = counted | {"by_reason": num_reasons}
    return Accepted(images, boxes, quarantine, account)


def _open_all(source: Source, rules: LogoData) -> Iterator[Opened]:
    """Photos that can be used, a few at a time; the others are refused, with their boxes."""
    photos = iter(source.photos)
    with ThreadPoolExecutor(2) as pool:
        while some := list(islice(photos, _PHOTOS_AT_ONCE)):
            for photo, found in zip(some, pool.map(lambda photo: _open(photo, rules), some), strict=True):
                if isinstance(found, Opened):
                    yield found
                else:
                    source.refuse("photo", photo.file, str(photo.file), found.reason, found.detail)


def _open(photo: Photo, rules: LogoData) -> Opened | Rejected:
    try:
        content = photo.file.read_bytes()
        image = logo_image.upright(content, rules.max_pixels)
    except OSError as error:
        return Rejected("photo_missing", f"cannot be read: {error.strerror}")
    except logo_image.Unreadable as error:
        return Rejected(error.reason, error.detail)
    wrong = judge_size(photo.size, image.size)
    return wrong or Opened(photo, digest.of_bytes(content), image.width, image.height, logo_image.pdq(image))


def _judge_boxes(source: Source, opened: dict[Path, Opened], rules: LogoData) -> tuple[pd.DataFrame, int]:
    """Boxes that are taken, by file, and how many of them were clipped."""
    rows, num_clipped = [], 0
    for mark in source.marks:
        photo = opened.get(mark.file)
        if photo is None:
            source.refuse("box", mark.file, mark.position, "photo_quarantined", "its photo is not taken")
            continue
        scale = (photo.width, photo.height) if source.relative else (1, 1)
        corners = tuple(corner * scale[place % 2] for place, corner in enumerate(mark.corners))
        judged = judge_box(corners, photo.width, photo.height, rules)  # type: ignore[arg-type]
        if isinstance(judged, Rejected):
            source.refuse("box", mark.file, mark.position, judged.reason, judged.detail)
            continue
        num_clipped += judged != corners
        rows.append((mark.file, mark.position, mark.brand, *judged))
    return pd.DataFrame(rows, columns=["file", "position", *_BOX]), num_clipped


def _with_boxes(source: Source, opened: dict[Path, Opened], boxes: pd.DataFrame) -> list[Opened]:
    """Photos, without those that lost every box they had."""
    claimed = {mark.file for mark in source.marks} | {Path(refusal.file) for refusal in source.refused if refusal.kind == "box"}
    kept = set(boxes["file"])
    for file in sorted(claimed & set(opened) - kept):
        source.refuse("photo", file, str(file), "no_box_left", "every box on it was refused, so what it shows is not known")
    return [photo for file, photo in opened.items() if file in kept or file not in claimed]


def _one_of_copies(source: Source, photos: list[Opened], boxes: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, int]]:
    """One photo for each digest, with its boxes once each; how many photos and boxes were duplicates."""
    of_file: dict[str, list[tuple[Any, ...]]] = {}
    for row in boxes.sort_values(_BOX).drop_duplicates(["file", *_BOX]).itertuples():
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
    kept = pd.DataFrame(rows, columns=["digest", *_BOX])
    refused = Counter(refusal.kind for refusal in source.refused if refusal.reason == "copies_disagree")
    return images, kept, {"photo": len(photos) - refused["photo"] - len(images), "box": len(boxes) - refused["box"] - len(kept)}


def _by_digest(photos: Iterable[Opened]) -> dict[str, list[Opened]]:
    found: dict[str, list[Opened]] = {}
    for photo in sorted(photos, key=lambda photo: str(photo.photo.file)):
        found.setdefault(photo.digest, []).append(photo)
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
    splits = [copy.photo.split for copy in copies if copy.photo.split]
    split = max(splits, key=SPLITS.index) if splits else None
    return first.digest, str(first.photo.file.resolve()), first.width, first.height, split, first.pdq, "import"
