"""Reads logo datasets in Pascal VOC's layout: Annotations/*.xml, JPEGImages/, and splits in ImageSets/Main/*.txt."""

import glob
import unicodedata
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

from upheld.common.errors import BadUse
from upheld.common.files import is_file, within
from upheld.feature_store.logos.dataset.dataset import SPLITS
from upheld.feature_store.logos.sources.source import Mark, Photo, Source, check_brands, is_brand, label_text, list_text


def read(folder: Path) -> Source:
    """Read a dataset. VOC counts pixels from 1 and its boxes contain their last one; ours count edges from 0.

    Args:
        folder: holds Annotations/ and JPEGImages/; `ImageSets/Main/{train,val,test}.txt` name the photos of each split. A `classes.txt` or
            `labels.txt`, if there is one, lists the names that objects may have; without it any name is a brand.

    Raises:
        BadUse: there are no annotations.
    """
    files = sorted((folder / "Annotations").glob("*.xml"))
    if not files:
        raise BadUse(f"{folder / 'Annotations'}: no .xml file here; expected one for each photo")
    lists = (folder / name for name in ("classes.txt", "labels.txt"))
    listed = next((path for path in lists if is_file(path) and within(folder, path)), None)
    known = check_brands([line for line in list_text(listed).splitlines() if line], listed) if listed else None
    splits: dict[str, str] = {}  # photo's name -> split, the most held-out one where several list it
    for split in SPLITS:
        path = folder / "ImageSets" / "Main" / f"{split}.txt"
        if path.is_file():
            splits |= {line.split()[0]: split for line in list_text(path).splitlines() if line.strip()}
    source = Source(known or ())
    for path in files:
        _take(source, folder, path, splits.get(path.stem), known)
    claimed = {photo.file for photo in source.photos} | {Path(refusal.file) for refusal in source.refused}
    for file in sorted((folder / "JPEGImages").glob("*")):
        if file not in claimed and not (folder / "Annotations" / f"{file.stem}.xml").is_file():
            source.refuse("photo", file, str(file), "label_missing", "no annotation; one without objects says that there is no logo")
    source.brands = known or tuple(sorted({mark.brand for mark in source.marks}))
    return source


def _take(source: Source, folder: Path, path: Path, split: str | None, known: tuple[str, ...] | None) -> None:
    if not within(folder, path):
        return source.refuse("photo", path, str(path), "label_path_unsafe", f"expected a file inside {folder}")
    try:
        root = ElementTree.fromstring(label_text(path), forbid_dtd=True)
    except DefusedXmlException as error:
        return source.refuse("photo", path, str(path), "xml_unsafe", f"{type(error).__name__}: labels need no DTD and no entities")
    except (ParseError, ValueError) as error:
        return source.refuse("photo", path, str(path), "label_malformed", str(error))
    name = root.findtext("filename") or f"{path.stem}.jpg"
    file = folder / "JPEGImages" / name
    if not is_file(file):  # tools that rename photos leave the old name in the label
        file = next(iter(sorted((folder / "JPEGImages").glob(f"{glob.escape(path.stem)}.*"))), file)
    if not within(folder, file):
        return source.refuse("photo", file, str(path), "photo_path_unsafe", f"filename {name!r}: expected a file in JPEGImages")
    try:  # many tools write 0 or nothing
        width, height = int(root.findtext("size/width") or 0), int(root.findtext("size/height") or 0)
    except ValueError:
        width = height = 0
    source.photos.append(Photo(file, split, (width, height) if width > 0 and height > 0 else None))
    for number, found in enumerate(root.iter("object")):
        _take_mark(source, file, f"{path}:object[{number}]", found, known)
    return None


def _take_mark(source: Source, file: Path, position: str, found: Any, known: tuple[str, ...] | None) -> None:
    name = unicodedata.normalize("NFC", (found.findtext("name") or "").strip())
    if not is_brand(name) or (known is not None and name not in known):
        return source.refuse("box", file, position, "unknown_class", f"name {name[:80]!r} is no brand of this dataset")
    try:
        x1, y1, x2, y2 = (float(found.findtext(f"bndbox/{edge}") or "") for edge in ("xmin", "ymin", "xmax", "ymax"))
    except ValueError:
        return source.refuse("box", file, position, "label_malformed", "bndbox: expected numbers in xmin, ymin, xmax and ymax")
    source.marks.append(Mark(file, position, name, (x1 - 1, y1 - 1, x2, y2)))
    return None
