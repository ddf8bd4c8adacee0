"""Stage `logo_scan`: find brand marks on every picture of the snapshot's posts, for fusion and for the table of appearances.

usage: python -m upheld.training.logos.scan     in a workspace that holds data/snapshot and models/logo
"""

import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from upheld.common import progress
from upheld.common.command import STORE_FOLDER, Output, StoreFolder, command
from upheld.common.terminal import console
from upheld.feature_store.contracts.snapshot import pins_of, read_snapshot
from upheld.feature_store.contracts.workspace import LOGO_MODEL, LOGO_SCAN, SNAPSHOT
from upheld.feature_store.features import media
from upheld.feature_store.features.media import whole
from upheld.training.logos import detector as logo_detector
from upheld.training.logos import pictures


@dataclass(frozen=True)
class Result:
    """Pictures looked at (0 without a detector), marks found on them, and brands looked for."""

    num_images: int
    num_detections: int
    num_brands: int


def run(store: Path, snapshot: Path, model: Path, out: Path) -> Result:
    """Apply the detector to all pictures of the snapshot, media files and key frames of videos alike.

    Args:
        store: folder with the ledger's media and the features.
        snapshot: folder of posts.parquet, examples.parquet and manifest.json.
        model: folder of the detector.
        out: folder to write, as `logo_pictures.save` does; its tables are empty where the detector was left untrained.

    Returns:
        counts.

    Raises:
        FailedWork: the snapshot or the detector cannot be read, or a picture of the snapshot has left the store.
    """
    data = read_snapshot(snapshot)
    detector = logo_detector.load(model)
    looked = pictures.NOTHING
    if detector is not None:
        names = {name for names in data.posts["image_digests"] for name in names}
        fetch = whole("image", store, media.pictures_of(store, data.posts, pins_of(data.manifest)))
        with progress.bars() as bars:
            looked = pictures.look(detector, names, fetch, progress.reporter(bars, "logos", len(names)))
    pictures.save(looked, out)
    return Result(len(looked.sizes), len(looked.detections), len(looked.brands))


@command("logo_scan")
def main(
    store: StoreFolder = STORE_FOLDER,
) -> Output:
    """Find brand marks on every picture of the snapshot's posts."""
    result = run(store, SNAPSHOT, LOGO_MODEL, LOGO_SCAN)
    text = f"{result.num_detections} marks of {result.num_brands} brands on {result.num_images} pictures"
    return Output(asdict(result), lambda: console().print(text))


if __name__ == "__main__":
    sys.exit(main())
