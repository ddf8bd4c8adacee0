"""Tiny logo datasets in the layouts that others use, for tests."""

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (80, 60)


def picture(seed: int, size: tuple[int, int] = SIZE) -> Image.Image:
    """Coarse random blobs: no two seeds are near-duplicates."""
    coarse = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def jpeg(image: Image.Image, quality: int = 90, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality, **options)
    return file.getvalue()


def put(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def yolo(folder: Path, photos: dict[str, tuple[bytes, str | None]], names: str = "[ant, bee]") -> Path:
    """`photos`: "train/a" -> bytes and label text; None leaves the label file out."""
    splits = sorted({name.split("/")[0] for name in photos})
    put(folder / "data.yaml", f"names: {names}\n" + "".join(f"{split}: images/{split}\n" for split in splits))
    for name, (content, label) in photos.items():
        put(folder / "images" / f"{name}.jpg", content)
        if label is not None:
            put(folder / "labels" / f"{name}.txt", label)
    return folder


def coco(folder: Path, split: str, photos: dict[str, bytes], annotations: list[dict], **image) -> Path:
    """Image ids count from 1; categories are 1 ant, 2 bee."""
    images = [{"id": number, "file_name": name, "width": SIZE[0], "height": SIZE[1]} | image for number, name in enumerate(photos, start=1)]
    categories = [{"id": 1, "name": "ant"}, {"id": 2, "name": "bee"}]
    for name, content in photos.items():
        put(folder / split / name, content)
    content = {"images": images, "categories": categories, "annotations": annotations}
    put(folder / "annotations" / f"instances_{split}.json", json.dumps(content))
    return folder


def voc(folder: Path, name: str, content: bytes, objects: str, size: tuple[int, int] = SIZE) -> Path:
    head = f"<filename>{name}.jpg</filename><size><width>{size[0]}</width><height>{size[1]}</height></size>"
    put(folder / "Annotations" / f"{name}.xml", f"<annotation>{head}{objects}</annotation>")
    put(folder / "JPEGImages" / f"{name}.jpg", content)
    return folder


def voc_object(brand: str, *edges: float) -> str:
    names = ("xmin", "ymin", "xmax", "ymax")
    box = "".join(f"<{name}>{edge}</{name}>" for name, edge in zip(names, edges, strict=True))
    return f"<object><name>{brand}</name><bndbox>{box}</bndbox></object>"
