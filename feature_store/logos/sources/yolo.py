"""Reads logo datasets in YOLO's layout: data.yaml, images/…, and beside them labels/… with one text file a photo."""

import os
import re
from pathlib import Path
from typing import Any

import yaml

from upheld.common.errors import BadUse
from upheld.common.files import is_file, within
from upheld.feature_store.logos.sources.source import Mark, Photo, Source, check_brands, label_text, list_text, split_named

_MAX_DEPTH = 8  # of lists and mappings in each other in data.yaml
_NO_PHOTOS = frozenset({".txt", ".cache", ".json", ".yaml", ".yml", ".xml", ".md"})  # what tools leave among photos; all else is tried


def read(folder: Path) -> Source:
    """Read a dataset; corners become shares of the photo's width and height.

    A photo whose label file is empty has no logos. One without a label file is refused: nobody said that there is none.

    Args:
        folder: holds one .yaml file with `names` and at least one of `train`, `val`, `test`: a folder, a list of folders, or a text file
            that lists photos; each relative to the yaml's `path` or to `folder`.

    Raises:
        BadUse: the yaml is missing or malformed, or names a place that is missing or outside `folder`.
    """
    path, about = _about(folder)
    source = Source(check_brands(about["names"], path), relative=True)
    splits = {key: about[key] for key in ("train", "val", "valid", "test") if about.get(key)}
    if not splits:
        raise BadUse(f"{path}: names none of train, val and test; at least one must say where photos are")
    seen: set[Path] = set()
    for key, places in splits.items():
        for file in _photos(folder, path, about.get("path"), places):
            if file not in seen:  # a photo listed for two splits belongs to the first of them
                seen.add(file)
                _take(source, folder, file, split_named(key))
    # label files in the folders of known ones that belong to no photo: their boxes would vanish unseen
    lists = {Path(str(place)).name for places in splits.values() for place in (places if isinstance(places, list) else [places])}
    known = {_labels_of(folder, photo) for photo in seen}
    for place in sorted({labels.parent for labels in known if within(folder, labels.parent) and labels.parent.is_dir()}):
        for labels in sorted(place.glob("*.txt")):
            if labels not in known and labels.name not in lists | {"classes.txt"}:
                source.refuse("photo", labels, str(labels), "photo_missing", "a label file without its photo")
    return source


def _about(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The data.yaml of a dataset and what it says; `names` are the classes in order of their number."""
    found = sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")])
    path = next((file for file in found if file.stem in ("data", "dataset")), found[0] if found else None)
    if path is None:
        raise BadUse(f"{folder}: no data.yaml here; expected the names of the classes and where train, val and test lie")
    if not within(folder, path):
        raise BadUse(f"{path}: leads outside {folder}; put a file there")
    text = list_text(path)
    try:
        depth = 0  # aliases can make a few lines as large as memory, and nesting as deep as the stack
        for event in yaml.parse(text, yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent) or depth > _MAX_DEPTH:
                raise BadUse(f"{path}: has aliases (*name), or more than {_MAX_DEPTH} lists in each other; write the names out")
        about = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise BadUse(f"{path}: not valid YAML: {error}") from error
    if not isinstance(about, dict):
        raise BadUse(f"{path}: expected a mapping with names, train and val")
    names = about.get("names")
    if isinstance(names, dict) and set(names) == set(range(len(names))):
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names or not all(isinstance(name, str | int | float) for name in names):
        raise BadUse(f"{path}: key names: expected a list of class names, or a mapping of 0, 1, … to them")
    return path, about | {"names": [str(name) for name in names]}


def _photos(folder: Path, origin: Path, root: Any, places: Any) -> list[Path]:
    files: list[Path] = []
    for place in places if isinstance(places, list) else [places]:
        # Exporters write ../train/images and mean train/images.
        name = re.sub(r"^(\.\./)+", "", str(place))
        options = [folder / str(root) / name, folder / name] if root else [folder / name]
        path = next((option for option in options if within(folder, option) and (option.is_dir() or is_file(option))), None)
        if path is None:
            raise BadUse(f"{origin}: {place}: no such folder or list inside {folder}")
        if path.is_dir():
            found = sorted(file for file in path.rglob("*") if not file.is_dir())
            files += [file for file in found if not file.name.startswith(".") and file.suffix.lower() not in _NO_PHOTOS]
        else:
            files += [folder / line for line in list_text(path).splitlines() if line.strip()]
    return files


def _labels_of(folder: Path, photo: Path) -> Path:
    """Label file of a photo: the last folder called images becomes labels; without one, the file beside it."""
    parts = list(Path(os.path.relpath(photo.absolute(), folder.absolute())).parts)
    places = [place for place, part in enumerate(parts[:-1]) if part == "images"]
    if places:
        parts[places[-1]] = "labels"
    return folder.joinpath(*parts).with_suffix(".txt")


def _take(source: Source, folder: Path, photo: Path, split: str | None) -> None:
    if not within(folder, photo):
        return source.refuse("photo", photo, str(photo), "photo_path_unsafe", f"expected a file inside {folder}")
    labels = _labels_of(folder, photo)
    if not within(folder, labels):
        return source.refuse("photo", photo, str(labels), "label_path_unsafe", f"expected a file inside {folder}")
    if not is_file(labels):
        return source.refuse("photo", photo, str(labels), "label_missing", "no label file; an empty one says that there is no logo")
    try:
        lines = label_text(labels).splitlines()
    except ValueError as error:
        return source.refuse("photo", photo, str(labels), "label_malformed", str(error))
    source.photos.append(Photo(photo, split))
    for number, line in enumerate(lines, start=1):
        if line.strip():
            _take_mark(source, photo, f"{labels}:{number}", line.split())


def _take_mark(source: Source, photo: Path, position: str, words: list[str]) -> None:
    try:
        number, x, y, width, height = (float(word) for word in words)
    except ValueError:
        return source.refuse("box", photo, position, "label_malformed", f"expected class x y width height, found {' '.join(words)[:80]!r}")
    if number not in range(len(source.brands)):
        known = f"data.yaml names {len(source.brands)} classes, counted from 0"
        return source.refuse("box", photo, position, "class_out_of_range", f"class {words[0][:20]}: {known}")
    corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    source.marks.append(Mark(photo, position, source.brands[int(number)], corners))
    return None
