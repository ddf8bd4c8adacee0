"""Make a logo dataset of a YOLO, COCO or Pascal VOC dataset. Photos stay where they are; each is inspected, its boxes are judged.

usage: upheld logo import FOLDER --format yolo --out logos
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import pandas as pd
import typer

from upheld.common.command import PARAM_OPTIONS, Output, ParamOptions, command
from upheld.common.errors import FailedWork
from upheld.common.files import write_json, write_parquet
from upheld.common.params import params
from upheld.common.params.logos import LogoData
from upheld.common.progress import track
from upheld.feature_store.decoding.contract import Refused
from upheld.feature_store.logos.dataset import dataset as logo_dataset
from upheld.feature_store.logos.dataset.boxes import Rejected, judge_box, judge_size, same_marks
from upheld.feature_store.logos.dataset.dataset import Result
from upheld.feature_store.logos.sources import coco, grouping, voc, yolo
from upheld.feature_store.logos.sources.inspection import Seen, inspect_photos, photo_bytes
from upheld.feature_store.logos.sources.source import Photo, Source, most_held_out
from upheld.feature_store.splits.near_pictures import near_pictures

Format = Literal["yolo", "coco", "voc"]
_READERS: Final = {"yolo": yolo.read, "coco": coco.read, "voc": voc.read}
_BOX: Final = ["brand", *logo_dataset.CORNERS]


@dataclass(frozen=True)
class Opened:
    """A photo that decodes: what the dataset says of it, and what was seen."""

    photo: Photo
    seen: Seen


@dataclass
class Accepted:
    """Tables of what was taken, and the account: rows = accepted + duplicate + quarantined, of photos and of boxes."""

    images: pd.DataFrame  # digest, file, width, height, split (or null), pdq, source
    boxes: pd.DataFrame  # digest, brand, x1, y1, x2, y2
    quarantine: pd.DataFrame  # kind, file, position, reason, detail
    account: dict[str, Any]


def run(rules: LogoData, seed: int, folder: Path, layout: Format, out: Path) -> Result:
    """Import a dataset. Writes, besides the dataset's tables, quarantine.parquet and report.json.

    Args:
        seed: of the splits, where the dataset brings none.
        folder: of the dataset.
        layout: how it is laid out.
        out: folder to write; an earlier logo dataset there is replaced.

    Returns:
        the dataset and its report.

    Raises:
        BadUse: `folder` is no dataset of that layout, or `out` holds something else.
        FailedWork: not one photo can be taken.
    """
    logo_dataset.refuse_others_folder(out)
    source = _READERS[layout](folder)
    taken = accept(source, rules)
    if taken.images.empty:
        found = ", ".join(f"{reason} {times}" for reason, times in taken.account["photos"]["by_reason"].items()) or "there is none"
        raise FailedWork(f"{folder}: no photo can be taken: {found}")
    images = taken.images.assign(group_id=near_pictures(taken.images, rules.max_hash_distance))
    report = taken.account | {"format": layout, "folder": str(folder), "near_duplicate": len(images) - images["group_id"].nunique()}
    if images["split"].isna().all():
        images["split"] = grouping.spread(images, taken.boxes, rules.shares, f"{seed}/logo")
        report["moved"] = 0
    else:
        listed = images["split"].fillna("train")  # photos that no list of the dataset names are for training
        split = grouping.held_out_first(images.assign(split=listed))
        report |= {"moved": int((split != listed).sum()), "in_no_list": int(images["split"].isna().sum())}
        images["split"] = split
    dataset = logo_dataset.assemble(out, source.brands, images, taken.boxes, taken.boxes.iloc[:0], synthetic=False)
    report["counts"] = logo_dataset.counts(dataset)
    write_parquet(out / "quarantine.parquet", taken.quarantine.astype(str))
    write_json(out / "report.json", report)
    logo_dataset.write(dataset)
    return Result(dataset, report)


def accept(source: Source, rules: LogoData) -> Accepted:
    """Judge what a reader found; nothing is skipped unseen.

    A photo all of whose boxes are refused is refused too: as a photo without logos it would teach the opposite of what was meant. Of
    several files with the same bytes one is taken, with its boxes, and the others are duplicates, if all show the same marks up to how
    a hand draws them; if not, none is taken. A file that is listed twice is one photo with the boxes of both.

    Args:
        source: as read; what is refused is added to it.

    Returns:
        what was taken, what was not, and the account.
    """
    rows_in = Counter(refusal.kind for refusal in source.refused)
    rows_in.update({"photo": len(source.photos), "box": len(source.marks)})
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
    opened: dict[Path, Opened] = {}
    inspected = inspect_photos(((photo, photo_bytes(photo.file, rules)) for photo in source.photos), rules)
    for photo, seen in track(inspected, "photos", len(source.photos)):
        wrong = seen if isinstance(seen, Refused) else judge_size(photo.size, (seen.width, seen.height))
        if wrong is not None:
            source.refuse("photo", photo.file, str(photo.file), wrong.reason, wrong.detail)
        elif isinstance(seen, Seen):
            opened[photo.file] = Opened(photo, seen)
    boxes, num_clipped = _judge_boxes(source, opened, rules)
    # a photo that lost every box it had is refused
    claimed = {mark.file for mark in source.marks} | {Path(refusal.file) for refusal in source.refused if refusal.kind == "box"}
    kept = set(boxes["file"])
    for file in sorted(claimed & set(opened) - kept):
        source.refuse("photo", file, str(file), "no_box_left", "every box on it was refused, so what it shows is not known")
    taken = [photo for file, photo in opened.items() if file in kept or file not in claimed]
    images, boxes, duplicates = one_of_copies(source, taken, boxes)
    duplicates["photo"] += sum(map(len, listed.values())) - len(listed)
    rows = [  # names of files may be any bytes, and UTF-8 must hold them
        {key: value.encode("utf-8", "backslashreplace").decode() for key, value in vars(refusal).items()} for refusal in source.refused
    ]
    quarantine = pd.DataFrame(rows, columns=["kind", "file", "position", "reason", "detail"])
    account: dict[str, Any] = {"boxes_clipped": num_clipped, "photos_without_logos": int((~images["digest"].isin(boxes["digest"])).sum())}
    kinds: tuple[tuple[Literal["photo", "box"], str, int], ...] = (("photo", "photos", len(images)), ("box", "boxes", len(boxes)))
    for kind, name, accepted in kinds:
        refused = quarantine[quarantine["kind"] == kind]
        by_reason = {str(reason): int(times) for reason, times in refused["reason"].value_counts().sort_index().items()}
        numbers = {"rows": rows_in[kind], "accepted": accepted, "duplicate": duplicates[kind], "quarantined": len(refused)}
        assert numbers["rows"] == accepted + duplicates[kind] + len(refused), (numbers, by_reason)
        account[name] = numbers | {"by_reason": by_reason}
    return Accepted(images, boxes, quarantine, account)


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
    return pd.DataFrame(rows, columns=["file", "position", *_BOX]), num_clipped


def one_of_copies(source: Source, photos: list[Opened], boxes: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, int]]:
    """Take each photo once, if all copies of it show the same marks.

    Args:
        source: notes what is refused.
        photos: that decode.
        boxes: file, position, brand, x1, y1, x2, y2 of the boxes on them.

    Returns:
        one photo for each digest (digest, file, width, height, split, pdq, source), its boxes once each (digest, brand, x1, y1, x2, y2),
        and how many photos and boxes were duplicates.
    """
    of_file: dict[str, list[tuple[Any, ...]]] = {}
    for row in boxes.sort_values(_BOX).drop_duplicates(["file", *_BOX]).itertuples():
        of_file.setdefault(str(row.file), []).append((row.brand, (row.x1, row.y1, row.x2, row.y2)))
    by_digest: dict[str, list[Opened]] = {}
    for photo in sorted(photos, key=lambda photo: str(photo.photo.file)):
        by_digest.setdefault(photo.seen.digest, []).append(photo)
    taken, rows = [], []
    for digest, copies in sorted(by_digest.items()):
        files = [copy.photo.file for copy in copies]
        marks = [of_file.get(str(file), []) for file in files]
        if not all(same_marks(marks[0], others) for others in marks):
            names = ", ".join(map(str, files))
            for file in files:
                source.refuse("photo", file, str(file), "copies_disagree", f"the same bytes with other boxes: {names}")
                for position in boxes.loc[boxes["file"] == file, "position"]:
                    source.refuse("box", file, position, "copies_disagree", "its photo occurs again with other boxes")
            continue
        seen, split = copies[0].seen, most_held_out(copy.photo.split for copy in copies)
        taken.append((digest, str(files[0].resolve()), seen.width, seen.height, split, seen.pdq, "import"))
        rows += [(digest, brand, *corners) for brand, corners in marks[0]]
    images = pd.DataFrame(taken, columns=["digest", "file", "width", "height", "split", "pdq", "source"])
    kept = pd.DataFrame(rows, columns=["digest", *_BOX])
    refused = Counter(refusal.kind for refusal in source.refused if refusal.reason == "copies_disagree")
    return images, kept, {"photo": len(photos) - refused["photo"] - len(images), "box": len(boxes) - refused["box"] - len(kept)}


@command("logo import")
def main(
    folder: Annotated[Path, typer.Argument(help="The dataset.", exists=True, file_okay=False)],
    layout: Annotated[Format, typer.Option("--format", help="How it is laid out.")],
    out: Annotated[Path, typer.Option(help="Folder to write; an earlier logo dataset there is replaced.")],
    asked: ParamOptions = PARAM_OPTIONS,
) -> Output:
    """Make a logo dataset of a YOLO, COCO or Pascal VOC dataset. Photos stay where they are."""
    given = params.load(*asked)
    report = run(given.logo_data, given.seed, folder, layout, out).report
    lines = []
    for kind in ("photos", "boxes"):
        row = report[kind]
        why = ", ".join(f"{reason} {times}" for reason, times in row["by_reason"].items())
        sums = f"{kind}: {row['rows']} = {row['accepted']} accepted + {row['duplicate']} duplicate + {row['quarantined']} quarantined"
        lines.append(sums + (f" ({why})" if why else ""))
    of_split = ", ".join(f"{split} {row['photos']}" for split, row in report["counts"]["splits"].items())
    lines.append(f"{of_split} photos; {report['photos_without_logos']} without logos; {report['moved']} moved to the split of a copy")
    return Output(report, "\n".join([*lines, f"in {out}; what was refused and why: {out / 'quarantine.parquet'}"]))
