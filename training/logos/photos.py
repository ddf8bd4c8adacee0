"""Photos with boxes as a detector is fed them: letterboxed squares in a memory map, randomly moved and tinted while training."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from upheld.feature_store.logos.dataset.photos import upright

DETECTIONS = ("image", "brand", "confidence", "x1", "y1", "x2", "y2")
SIZES = ("image", "width", "height")
BATCH = 16  # photos in one forward pass
PAD = 114  # grey of the border that makes a photo square
MAX_BOXES = 64  # marks of one photo that are learned from, the largest; photos with more are rare and crowded
STORED = 1.25  # side of what is kept, in units of the model's input: room to zoom in
ZOOM = (0.5, 1.4)  # of the photo in the input, while training
MIN_VISIBLE = 0.4  # share of a mark's area that must stay in the picture for it to be learned from
GAIN, SHIFT = 0.3, 25.0  # bounds of the random contrast and of the random brightness (of 255)

Pixels = NDArray[np.uint8]
Boxes = NDArray[np.float32]


@dataclass(frozen=True)
class Found:
    """Marks found on one picture: boxes float32 (M, 4) in its pixels, classes int64 (M,) from 0, confidences float32 (M,) in [0, 1]."""

    boxes: Boxes
    classes: NDArray[np.int64]
    confidences: NDArray[np.float32]


class Backend(Protocol):
    """What a detector must be able to do once it is trained."""

    def detect(self, pictures: Pixels) -> list[Found]:
        """Marks on each of uint8 (N, S, S, 3) letterboxed pictures."""

    def save(self, folder: Path) -> dict[str, Any]:
        """Write the weights into a folder; returns what `load` needs besides them."""


@dataclass(frozen=True)
class Photo:
    """One photo's marks: `boxes` float32 (M, 4) x1 y1 x2 y2 in pixels of the upright photo, `classes` int64 (M,) counting from 1."""

    digest: str
    boxes: Boxes
    classes: NDArray[np.int64]


def letterbox(picture: Pixels, size: int) -> tuple[Pixels, float]:
    """Scale a picture into the upper left of a square.

    Args:
        picture: uint8 (H, W, 3).
        size: side of the square in pixels.

    Returns:
        uint8 (size, size, 3) and the factor by which coordinates of the picture were multiplied.
    """
    height, width = picture.shape[:2]
    factor = size / max(height, width)
    new_width, new_height = max(1, round(width * factor)), max(1, round(height * factor))
    square = np.full((size, size, 3), PAD, np.uint8)
    square[:new_height, :new_width] = cv2.resize(
        picture, (new_width, new_height), interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    )
    return square, factor


class PhotoMap:
    """Photos of a dataset, letterboxed once and kept on disk: `pixels` uint8 (N, S, S, 3), `photos` with boxes in its coordinates."""

    def __init__(self, pixels: Pixels, photos: Sequence[Photo]) -> None:
        self.pixels = pixels
        self.photos = photos

    def __len__(self) -> int:
        """Number of photos."""
        return len(self.photos)


@contextmanager
def photo_map(
    photos: Sequence[Photo], contents: Iterator[tuple[str, bytes]], size: int, max_pixels: int, folder: Path
) -> Iterator[PhotoMap]:
    """Decode photos into a temporary memory map that lives as long as the `with` block.

    Args:
        photos: with boxes in pixels of the upright photo; digests unique.
        contents: (digest, bytes) of at least these photos, in any order.
        size: side of the squares in pixels.
        max_pixels: of a photo.
        folder: where the temporary file goes; made if missing.

    Raises:
        Undecodable: a photo cannot be decoded.
        KeyError: `contents` lacks one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    place = {photo.digest: number for number, photo in enumerate(photos)}
    factors: dict[int, float] = {}
    with tempfile.TemporaryDirectory(dir=folder, prefix="photos-") as scratch:
        pixels = np.memmap(Path(scratch) / "pixels.u8", np.uint8, "w+", shape=(max(len(photos), 1), size, size, 3))
        for digest, content in contents:
            if (number := place.get(digest)) is not None:
                pixels[number], factors[number] = letterbox(np.asarray(upright(content, max_pixels)), size)
        yield PhotoMap(pixels, [Photo(p.digest, p.boxes * np.float32(factors[place[p.digest]]), p.classes) for p in photos])
        del pixels


def moved(picture: Pixels, photo: Photo, size: int, random: np.random.Generator) -> tuple[Pixels, Photo]:
    """A random zoom, place, contrast and brightness of a letterboxed picture; never mirrored, a mirrored mark is another mark.

    Args:
        picture: uint8 (S, S, 3).
        photo: its marks.
        size: side of the result in pixels.
        random: draws what happens.

    Returns:
        uint8 (size, size, 3) and its marks; those of which too little is left are dropped.
    """
    factor = size / picture.shape[0] * random.uniform(*ZOOM)
    slack = size - factor * picture.shape[0]
    shift_x, shift_y = (random.uniform(min(slack, 0), max(slack, 0)) for _ in range(2))
    matrix = np.array([[factor, 0, shift_x], [0, factor, shift_y]], np.float32)
    result = cv2.warpAffine(picture, matrix, (size, size), flags=cv2.INTER_LINEAR, borderValue=(PAD, PAD, PAD))
    tinted = np.clip(result * random.uniform(1 - GAIN, 1 + GAIN) + random.uniform(-SHIFT, SHIFT), 0, 255).astype(np.uint8)
    boxes = photo.boxes * np.float32(factor) + np.array([shift_x, shift_y] * 2, np.float32)
    inside = boxes.clip(0, size)
    kept = area(inside) >= MIN_VISIBLE * area(boxes)
    return tinted, Photo(photo.digest, inside[kept], photo.classes[kept])


def area(boxes: Boxes) -> Boxes:
    """Area of each box, float32 (M,), in square pixels."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def padded(photos: Sequence[Photo]) -> tuple[Boxes, NDArray[np.int64]]:
    """Boxes float32 (N, MAX_BOXES, 4) and classes int64 (N, MAX_BOXES), class 0 where there is no mark."""
    boxes = np.zeros((len(photos), MAX_BOXES, 4), np.float32)
    classes = np.zeros((len(photos), MAX_BOXES), np.int64)
    for number, photo in enumerate(photos):
        largest = np.argsort(-area(photo.boxes), kind="stable")[:MAX_BOXES]
        boxes[number, : len(largest)] = photo.boxes[largest]
        classes[number, : len(largest)] = photo.classes[largest]
    return boxes, classes
