"""Stage `logo_scan`: find brand marks on every picture of the snapshot's posts, for fusion and for the table of appearances.

usage: python -m upheld.training.logos.scan     in a workspace that holds data/snapshot and models/logo
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from upheld.common import progress
from upheld.common.command import STORE_FOLDER, Output, StoreFolder, command
from upheld.common.errors import FailedWork
from upheld.common.files import replacing_folder, write_json
from upheld.common.progress import Report, silent
from upheld.common.terminal import console
from upheld.feature_store.contracts.snapshot import pins_of, read_snapshot
from upheld.feature_store.contracts.workspace import LOGO_MODEL, LOGO_SCAN, SNAPSHOT
from upheld.feature_store.features import media
from upheld.feature_store.features.media import whole
from upheld.training.logos import detector as logo_detector
from upheld.training.logos import photos
from upheld.training.logos.detector import Detector
from upheld.training.logos.photos import BATCH

AT_ONCE = 4 * BATCH  # pictures whose bytes are in memory
ANY_SIZE = 2**62  # pixels: whoever took the pictures in has judged them by its bounds
DETECTIONS: dict[str, Any] = dict.fromkeys(photos.DETECTIONS, "float64") | {"image": "str", "brand": "str"}
SIZES: dict[str, Any] = dict.fromkeys(photos.SIZES, "int32") | {"image": "str"}


@dataclass(frozen=True)
class Scan:
    """What was found: `detections` (DETECTIONS; image is a digest, corners in pixels of the upright picture) and `sizes` (SIZES, upright)
    of all pictures looked at; `brands` that were looked for."""

    detections: pd.DataFrame
    sizes: pd.DataFrame
    brands: tuple[str, ...]


NOTHING = Scan(pd.DataFrame(columns=list(DETECTIONS)).astype(DETECTIONS), pd.DataFrame(columns=list(SIZES)).astype(SIZES), ())


def scan_pictures(
    detector: Detector, names: Iterable[str], fetch: Callable[[Sequence[str]], Mapping[str, bytes]], report: Report = silent
) -> Scan:
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
    return Scan(found.detections.astype(DETECTIONS), found.sizes.astype(SIZES), detector.brands)


def save(scan: Scan, folder: Path) -> None:
    """Write detections.parquet, images.parquet (the sizes) and scan.json (`brands`) into a folder, which is replaced as a whole."""
    with replacing_folder(folder) as unfinished:
        scan.detections.to_parquet(unfinished / "detections.parquet", index=False)
        scan.sizes.to_parquet(unfinished / "images.parquet", index=False)
        write_json(unfinished / "scan.json", {"brands": scan.brands})


def read(folder: Path) -> Scan:
    """Read back what `save` wrote.

    Raises:
        FailedWork: the folder is missing or damaged.
    """
    try:
        detections, sizes = (pd.read_parquet(folder / f"{name}.parquet") for name in ("detections", "images"))
        return Scan(detections, sizes, tuple(json.loads((folder / "scan.json").read_text(encoding="utf-8"))["brands"]))
    except (OSError, ValueError, KeyError) as error:
        raise FailedWork(f"{folder}: not readable ({error}); run the stage logo_scan again") from error


def run(store: Path, snapshot: Path, model: Path, out: Path) -> Scan:
    """Apply the detector to all pictures of the snapshot, media files and key frames of videos alike.

    Args:
        store: folder with the ledger's media and the features.
        snapshot: folder of posts.parquet, examples.parquet and manifest.json.
        model: folder of the detector.
        out: folder to write, as `save` does.

    Returns:
        what was found; empty where the detector was left untrained.

    Raises:
        FailedWork: the snapshot or the detector cannot be read, or a picture of the snapshot has left the store.
    """
    data = read_snapshot(snapshot)
    detector = logo_detector.load(model)
    scan = NOTHING
    if detector is not None:
        names = {name for names in data.posts["image_digests"] for name in names}
        fetch = whole("image", store, media.pictures_of(store, data.posts, pins_of(data.manifest)))
        with progress.bars() as bars:
            scan = scan_pictures(detector, names, fetch, progress.reporter(bars, "logos", len(names)))
    save(scan, out)
    return scan


@command("logo_scan")
def main(store: StoreFolder = STORE_FOLDER) -> Output:
    """Find brand marks on every picture of the snapshot's posts."""
    scan = run(store, SNAPSHOT, LOGO_MODEL, LOGO_SCAN)
    counts = {"num_images": len(scan.sizes), "num_detections": len(scan.detections), "num_brands": len(scan.brands)}
    text = "{num_detections} marks of {num_brands} brands on {num_images} pictures".format_map(counts)
    return Output(counts, lambda: console().print(text))


if __name__ == "__main__":
    sys.exit(main())
