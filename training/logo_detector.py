"""A trained logo detector: on disk, in memory, and applied to photos. Both backends look the same from here."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from feature_store.atomic import write_json
from feature_store.errors import FailedWork
from feature_store.logo_image import upright
from training.logo_photos import Boxes, Pixels, letterbox

DETECTIONS = ("image", "brand", "confidence", "x1", "y1", "x2", "y2")
BATCH = 16  # photos in one forward pass


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
class Detector:
    """A backend, the brands that its classes stand for in their order, the side of its input in pixels."""

    backend: Backend
    brands: tuple[str, ...]
    size: int


def save(detector: Detector, folder: Path, kind: str, record: dict[str, Any]) -> None:
    """Write a detector: its weights and metadata.json."""
    backend = detector.backend.save(folder)
    about = {"kind": kind, "brands": detector.brands, "size": detector.size, "backend": backend, "untrained": None, **record}
    write_json(folder / "metadata.json", about)


def save_untrained(folder: Path, reason: str) -> None:
    """Write a folder that says why there is no detector."""
    write_json(folder / "metadata.json", {"untrained": reason})


def load(folder: Path) -> Detector | None:
    """Read a detector back; None where it was left untrained.

    Raises:
        FailedWork: the folder is missing or damaged.
    """
    try:
        about = json.loads((folder / "metadata.json").read_text(encoding="utf-8"))
        if about["untrained"]:
            return None
        if about["kind"] == "yolo":
            from training.logo_yolo import load_yolo  # AGPL-3.0 and seconds to import: only where it is used

            backend: Backend = load_yolo(folder, about["backend"])
        else:
            from training.logo_faster_rcnn import load_faster_rcnn

            backend = load_faster_rcnn(folder, about["backend"])
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise FailedWork(f"{folder}: not a readable logo detector ({error}); train it again with `upheld logo train`") from error
    return Detector(backend, tuple(about["brands"]), int(about["size"]))


def detect(detector: Detector, photos: Iterable[tuple[str, bytes]], max_pixels: int) -> pd.DataFrame:
    """Marks on photos.

    Args:
        detector: from `load`.
        photos: (name, bytes) of each.
        max_pixels: of a photo; see `upright`.

    Returns:
        columns of DETECTIONS; x and y in pixels of the upright photo, from its upper left corner; no row for a photo without a find.

    Raises:
        Unreadable: a photo cannot be decoded.
    """
    waiting = iter(photos)
    rows: list[tuple[Any, ...]] = []
    while some := list(islice(waiting, BATCH)):
        rows += _of_batch(detector, some, max_pixels)
    return pd.DataFrame(rows, columns=list(DETECTIONS)).astype(dict.fromkeys(DETECTIONS[2:], float))


def _of_batch(detector: Detector, photos: Sequence[tuple[str, bytes]], max_pixels: int) -> list[tuple[Any, ...]]:
    pictures = [np.asarray(upright(content, max_pixels)) for _, content in photos]
    squares = [letterbox(picture, detector.size) for picture in pictures]
    found = detector.backend.detect(np.stack([square for square, _ in squares]))
    rows: list[tuple[Any, ...]] = []
    for (name, _), picture, (_, factor), marks in zip(photos, pictures, squares, found, strict=True):
        limits = np.array([picture.shape[1], picture.shape[0]] * 2, np.float32)
        boxes = np.minimum(marks.boxes / np.float32(factor), limits)
        for box, number, confidence in zip(boxes.tolist(), marks.classes.tolist(), marks.confidences.tolist(), strict=True):
            rows.append((name, detector.brands[number], confidence, *box))
    return rows
