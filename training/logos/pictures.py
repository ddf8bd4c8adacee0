"""A logo detector applied to the pictures of posts, each of them once; and what it found, as a folder."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from upheld.common.errors import FailedWork
from upheld.common.files import replacing_folder, write_json
from upheld.common.progress import Report, silent
from upheld.training.logos import detector as logo_detector
from upheld.training.logos import photos
from upheld.training.logos.detector import Detector
from upheld.training.logos.photos import BATCH

AT_ONCE = 4 * BATCH  # pictures whose bytes are in memory
ANY_SIZE = 2**62  # pixels: whoever took the pictures in has judged them by its bounds
DETECTIONS: dict[str, Any] = dict.fromkeys(photos.DETECTIONS, "float64") | {"image": "str", "brand": "str"}
SIZES: dict[str, Any] = dict.fromkeys(photos.SIZES, "int32") | {"image": "str"}


@dataclass(frozen=True)
class Looked:
    """What was found: `detections` (DETECTIONS; image is a digest, corners in pixels of the upright picture) and `sizes` (SIZES, upright)
    of all pictures looked at; `brands` that were looked for."""

    detections: pd.DataFrame
    sizes: pd.DataFrame
    brands: tuple[str, ...]


NOTHING = Looked(pd.DataFrame(columns=list(DETECTIONS)).astype(DETECTIONS), pd.DataFrame(columns=list(SIZES)).astype(SIZES), ())


def look(
    detector: Detector, names: Iterable[str], fetch: Callable[[Sequence[str]], Mapping[str, bytes]], report: Report = silent
) -> Looked:
    """Find marks on pictures.

    Args:
        detector: from `logo_detector.load`.
        names: digests of pictures; one that comes again is looked at once.
        fetch: digests -> bytes of each; asked for AT_ONCE of them.
        report: is told how many pictures have been done since its last call.

    Returns:
        what was found, in order of the digest whatever the order of `names`.
    """
    ordered = sorted(set(names))

    def contents() -> Iterator[tuple[str, bytes]]:
        """Each picture's bytes, a few in memory at a time."""
        for start in range(0, len(ordered), AT_ONCE):
            some = ordered[start : start + AT_ONCE]
            content = fetch(some)
            yield from ((name, content[name]) for name in some)
            report(len(some))

    found = logo_detector.detect(detector, contents(), ANY_SIZE)
    return Looked(found.detections.astype(DETECTIONS), found.sizes.astype(SIZES), detector.brands)


def save(looked: Looked, folder: Path) -> None:
    """Write detections.parquet, images.parquet (the sizes) and scan.json (`brands`) into a folder, which is replaced as a whole."""
    with replacing_folder(folder) as unfinished:
        looked.detections.to_parquet(unfinished / "detections.parquet", index=False)
        looked.sizes.to_parquet(unfinished / "images.parquet", index=False)
        write_json(unfinished / "scan.json", {"brands": looked.brands})


def read(folder: Path) -> Looked:
    """Read back what `save` wrote.

    Raises:
        FailedWork: the folder is missing or damaged.
    """
    try:
        detections, sizes = (pd.read_parquet(folder / f"{name}.parquet") for name in ("detections", "images"))
        return Looked(detections, sizes, tuple(json.loads((folder / "scan.json").read_text(encoding="utf-8"))["brands"]))
    except (OSError, ValueError, KeyError) as error:
        raise FailedWork(f"{folder}: not readable ({error}); run the stage logo_scan again") from error
