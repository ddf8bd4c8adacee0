"""Reads logo datasets in COCO's layout: a JSON file a split, with images, annotations and categories."""

import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from upheld.common.errors import BadUse
from upheld.common.files import is_file, within
from upheld.feature_store.logos.sources.source import Mark, Photo, Source, check_brands, label_text, split_named

_MAX_BYTES = 1 << 30  # of a file; COCO's own 860,000 boxes take half of it


class _Image(BaseModel):
    id: int
    file_name: str
    width: int | None = None
    height: int | None = None


class _Category(BaseModel):
    id: int
    name: str


class _File(BaseModel):
    images: list[_Image]
    categories: list[_Category] = Field(min_length=1)
    annotations: list[dict[str, Any]]


class _Annotation(BaseModel):
    image_id: int
    category_id: int
    bbox: Annotated[list[float], Field(min_length=4, max_length=4)]
    iscrowd: int = 0


def read(folder: Path) -> Source:
    """Read a dataset.

    Args:
        folder: holds JSON files, itself, in `annotations/` or in a folder a split; `train`, `val` or `test` in the name of a file or of its
            folder is its split. Photos lie beside the JSON file, in `folder`, in `images/`, or in a folder of the split's name.

    Raises:
        BadUse: no such file, one that is no COCO file, image ids that are not unique, or categories that differ between files.
    """
    files = sorted({*folder.glob("*.json"), *folder.glob("annotations/*.json"), *folder.glob("*/*.coco.json")})
    contents = {path: _parse(folder, path) for path in files if path.name not in ("dataset.json", "report.json")}
    if not contents:
        raise BadUse(f"{folder}: no COCO file here; expected annotations/instances_train.json or the like")
    names: dict[int, str] = {}
    for path, content in contents.items():
        for category in content.categories:
            if names.setdefault(category.id, category.name) != category.name:
                raise BadUse(f"{path}: category {category.id} is {category.name!r} here and {names[category.id]!r} in another file")
    source = Source(check_brands(list(names.values()), next(iter(contents))))
    for path, content in contents.items():
        split = split_named(path.stem) or split_named(path.parent.name)
        subfolders = [place for root in (folder, folder / "images") if root.is_dir() for place in sorted(root.iterdir()) if place.is_dir()]
        of_split = [place for place in subfolders if split and split_named(place.name) == split]
        places = [path.parent, *of_split, folder / "images", folder]  # that photos may lie in, the likeliest first
        photos: dict[int, Path] = {}
        for number, image in enumerate(content.images):
            position = f"{path}:images[{number}]"
            file = next((place / image.file_name for place in places if is_file(place / image.file_name)), places[0] / image.file_name)
            photos[image.id] = file
            if not within(folder, file):
                source.refuse("photo", file, position, "photo_path_unsafe", f"{image.file_name!r}: expected a file inside {folder}")
            else:
                size = (image.width, image.height) if image.width and image.height else None
                source.photos.append(Photo(file, split, size))
        for number, annotation in enumerate(content.annotations):
            _take_mark(source, annotation, f"{path}:annotations[{number}]", photos, names)
    return source


def _parse(folder: Path, path: Path) -> _File:
    if not within(folder, path):
        raise BadUse(f"{path}: leads outside {folder}; put a file there")
    try:
        content = _File.model_validate(json.loads(label_text(path, _MAX_BYTES)))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise BadUse(f"{path}: key {key}: {first['msg']}; expected a COCO file with images, annotations and categories") from error
    except (ValueError, RecursionError) as error:
        raise BadUse(f"{path}: not valid JSON ({error})") from error
    repeated = [name for name, times in Counter(image.id for image in content.images).items() if times > 1]
    if repeated:
        raise BadUse(f"{path}: image id {repeated[0]} occurs more than once; ids must tell images apart")
    return content


def _take_mark(source: Source, annotation: dict[str, Any], position: str, photos: dict[int, Path], names: dict[int, str]) -> None:
    try:
        mark = _Annotation.model_validate(annotation)
    except ValidationError as error:
        first = error.errors()[0]
        return source.refuse("box", Path(), position, "label_malformed", f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
    if mark.image_id not in photos:
        return source.refuse("box", Path(), position, "photo_missing", f"image_id {mark.image_id} is not among the images")
    file = photos[mark.image_id]
    if mark.category_id not in names:
        return source.refuse("box", file, position, "unknown_class", f"category_id {mark.category_id} is not among the categories")
    if mark.iscrowd:
        return source.refuse("box", file, position, "crowd", "a box around several marks says where none of them is")
    x, y, width, height = mark.bbox
    source.marks.append(Mark(file, position, names[mark.category_id], (x, y, x + width, y + height)))
    return None
