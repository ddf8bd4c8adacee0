"""A trained logo detector: on disk, in memory, and applied to photos. Both backends look the same from here."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from upheld.common.errors import FailedWork
from upheld.common.files import write_json
from upheld.feature_store.logos.dataset.photos import upright
from upheld.training.logos.photos import BATCH, DETECTIONS, SIZES, Backend, letterbox


@dataclass(frozen=True)
class Detector:
    """A backend, the brands that its classes stand for in their order, the side of its input in pixels."""

    backend: Backend
    brands: tuple[str, ...]
    size: int


@dataclass(frozen=True)
class Detected:
    """Marks found on photos, and the photos.

    detections: columns of DETECTIONS; x and y in pixels of the upright photo, from its upper left corner; none for a photo without a find.
    sizes: columns of SIZES, one row a photo: width and height in pixels, upright.
    """

    detections: pd.DataFrame
    sizes: pd.DataFrame


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
            from upheld.training.logos.yolo import load_yolo  # AGPL-3.0 and seconds to import: only where it is used

            backend: Backend = load_yolo(folder, about["backend"])
        else:
            from upheld.training.logos.faster_rcnn import load_faster_rcnn

            backend = load_faster_rcnn(folder, about["backend"])
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise FailedWork(f"{folder}: not a readable logo detector ({error}); train it again with `upheld logo train`") from error
    return Detector(backend, tuple(about["brands"]), int(about["size"]))


def detect(detector: Detector, photos: Iterable[tuple[str, bytes]], max_pixels: int) -> Detected:
    """Marks on photos.

    Args:
        detector: from `load`.
        photos: (name, bytes) of each.
        max_pixels: of a photo; see `upright`.

    Raises:
        Undecodable: a photo cannot be decoded.
    """
    waiting = iter(photos)
    rows: list[tuple[Any, ...]] = []
    sizes: list[tuple[str, int, int]] = []
    while some := list(islice(waiting, BATCH)):
        pictures = [np.asarray(upright(content, max_pixels)) for _, content in some]
        squares = [letterbox(picture, detector.size) for picture in pictures]
        found = detector.backend.detect(np.stack([square for square, _ in squares]))
        for (name, _), picture, (_, factor), marks in zip(some, pictures, squares, found, strict=True):
            height, width = picture.shape[:2]
            sizes.append((name, width, height))
            boxes = np.minimum(marks.boxes / np.float32(factor), np.array([width, height] * 2, np.float32))
            for box, number, confidence in zip(boxes.tolist(), marks.classes.tolist(), marks.confidences.tolist(), strict=True):
                rows.append((name, detector.brands[number], confidence, *box))
    detections = pd.DataFrame(rows, columns=list(DETECTIONS)).astype(dict.fromkeys(DETECTIONS[2:], float))
    return Detected(detections, pd.DataFrame(sizes, columns=list(SIZES)))
