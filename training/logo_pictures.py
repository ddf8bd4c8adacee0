"""A logo detector applied to the pictures of posts, each of them once; and what it found, as a folder."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from feature_store.atomic import replacing_folder, write_json
from feature_store.errors import FailedWork
from feature_store.extractors.image_decoding import decode_within
from training import logo_detector
from training.logo_detector import Detector
from training.progress import Report, silent

AT_ONCE = 4 * logo_detector.BATCH  # pictures whose bytes are in memory
ANY_SIZE = 2**62  # pixels: whoever took the pictures in has judged them by its bounds
DETECTIONS: dict[str, Any] = dict.fromkeys(logo_detector.DETECTIONS, "float64") | {"image": "str", "brand": "str"}
SIZES: dict[str, Any] = {"image": "str", "width": "int32", "height": "int32"}


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
    sizes: list[tuple[str, int, int]] = []
    found = logo_detector.detect(detector, _measured(ordered, fetch, sizes, report), ANY_SIZE)
    return Looked(found.astype(DETECTIONS), pd.DataFrame(sizes, columns=list(SIZES)).astype(SIZES), detector.brands)


def _measured(
    names: Sequence[str], fetch: Callable[[Sequence[str]], Mapping[str, bytes]], sizes: list[tuple[str, int, int]], report: Report
) -> Iterator[tuple[str, bytes]]:
    """Each picture's bytes, a few in memory at a time; its size goes into `sizes`."""
    for start in range(0, len(names), AT_ONCE):
        some = names[start : start + AT_ONCE]
        content = fetch(some)
        for name in some:
            decoded = decode_within(content[name], 1)
            sizes.append((name, decoded.width, decoded.height))
            yield name, content[name]
        report(len(some))


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
