"""Which photos and boxes of a dataset are taken: photos are looked at, boxes judged, copies found; nothing is skipped unseen."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from upheld.common.params.logos import LogoData
from upheld.feature_store.logos.dataset.checks import Rejected, judge_box, judge_size
from upheld.feature_store.logos.dataset.photos import Unreadable
from upheld.feature_store.logos.sources.copies import BOX, Opened, one_of_copies
from upheld.feature_store.logos.sources.inspection import look, photo_bytes
from upheld.feature_store.logos.sources.source import Photo, Source, most_held_out


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
    a hand draws them; if not, none is taken. A file that is listed twice is one photo with the boxes of both.

    Args:
        source: as read.
        rules: section `logo_data`.
        watch: passes photos on as they are opened, for a progress bar.

    Returns:
        what was taken, what was not, and the account.
    """
    rows_in = Counter(refusal.kind for refusal in source.refused)
    rows_in.update({"photo": len(source.photos), "box": len(source.marks)})
    listed_again = _list_once(source)
    opened = {photo.photo.file: photo for photo in watch(_open_all(source, rules))}
    boxes, num_clipped = _judge_boxes(source, opened, rules)
    photos = _with_boxes(source, opened, boxes)
    images, boxes, duplicates = one_of_copies(source, photos, boxes)
    duplicates["photo"] += listed_again
    rows = [{key: _written(value) for key, value in vars(refusal).items()} for refusal in source.refused]
    quarantine = pd.DataFrame(rows, columns=["kind", "file", "position", "reason", "detail"])
    account: dict[str, Any] = {"boxes_clipped": num_clipped, "photos_without_logos": int((~images["digest"].isin(boxes["digest"])).sum())}
    account["photos"] = _counted(quarantine[quarantine["kind"] == "photo"], rows_in["photo"], len(images), duplicates["photo"])
    account["boxes"] = _counted(quarantine[quarantine["kind"] == "box"], rows_in["box"], len(boxes), duplicates["box"])
    return Accepted(images, boxes, quarantine, account)


def _counted(quarantine: pd.DataFrame, rows: int, accepted: int, duplicate: int) -> dict[str, Any]:
    by_reason = {str(reason): int(times) for reason, times in quarantine["reason"].value_counts().sort_index().items()}
    assert rows == accepted + duplicate + len(quarantine), (rows, accepted, duplicate, by_reason)
    return {"rows": rows, "accepted": accepted, "duplicate": duplicate, "quarantined": len(quarantine), "by_reason": by_reason}


def _written(text: str) -> str:
    """Text that UTF-8 can hold: names of files may be any bytes."""
    return text.encode("utf-8", "backslashreplace").decode()


def _list_once(source: Source) -> int:
    """Make one photo of those that are listed several times; returns how many listings that were too many."""
    listed: dict[Path, list[Photo]] = {}
    for photo in source.photos:
        listed.setdefault(photo.file, []).append(photo)
    source.photos = []
    for file, photos in listed.items():
        sizes = {photo.size for photo in photos if photo.size}
        if len(sizes) > 1:
            source.refuse("photo", file, str(file), "size_mismatch", f"listed {len(photos)} times, with other sizes each")
        else:
            source.photos.append(Photo(file, most_held_out(photo.split for photo in photos), next(iter(sizes), None)))
    return sum(map(len, listed.values())) - len(listed)


def _open_all(source: Source, rules: LogoData) -> Iterator[Opened]:
    """Photos that can be used; the others are refused, with their boxes."""
    for photo, seen in look(((photo, photo_bytes(photo.file, rules)) for photo in source.photos), rules):
        if isinstance(seen, Unreadable):
            source.refuse("photo", photo.file, str(photo.file), seen.reason, seen.detail)
        elif wrong := judge_size(photo.size, (seen.width, seen.height)):
            source.refuse("photo", photo.file, str(photo.file), wrong.reason, wrong.detail)
        else:
            yield Opened(photo, seen)


def _judge_boxes(source: Source, opened: dict[Path, Opened], rules: LogoData) -> tuple[pd.DataFrame, int]:
    """Boxes that are taken, by file, and how many of them were clipped."""
    rows, num_clipped = [], 0
    for mark in source.marks:
        photo = opened.get(mark.file)
        if photo is None:
            source.refuse("box", mark.file, mark.position, "photo_quarantined", "its photo is not taken")
            continue
        scale = (photo.seen.width, photo.seen.height) if source.relative else (1, 1)
        corners = tuple(corner * scale[place % 2] for place, corner in enumerate(mark.corners))
        judged = judge_box(corners, photo.seen.width, photo.seen.height, rules)  # type: ignore[arg-type]
        if isinstance(judged, Rejected):
            source.refuse("box", mark.file, mark.position, judged.reason, judged.detail)
            continue
        num_clipped += judged != corners
        rows.append((mark.file, mark.position, mark.brand, *judged))
    return pd.DataFrame(rows, columns=["file", "position", *BOX]), num_clipped


def _with_boxes(source: Source, opened: dict[Path, Opened], boxes: pd.DataFrame) -> list[Opened]:
    """Photos, without those that lost every box they had."""
    claimed = {mark.file for mark in source.marks} | {Path(refusal.file) for refusal in source.refused if refusal.kind == "box"}
    kept = set(boxes["file"])
    for file in sorted(claimed & set(opened) - kept):
        source.refuse("photo", file, str(file), "no_box_left", "every box on it was refused, so what it shows is not known")
    return [photo for file, photo in opened.items() if file in kept or file not in claimed]
