"""What an evaluation of logo detections reads: files that a caller names, or those of the stage."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa

from upheld.common.errors import BadUse
from upheld.evaluation.logos.exposure import exposure
from upheld.feature_store.contracts.snapshot import POSTS_FILE
from upheld.feature_store.contracts.workspace import LOGO_DATASET, LOGO_DETECTIONS, LOGO_SCAN, SNAPSHOT
from upheld.feature_store.logos.dataset.dataset import CORNERS, Dataset

DETECTIONS = ("image", "brand", "confidence", *CORNERS)


@dataclass(frozen=True)
class Inputs:
    """What is judged, and by what.

    dataset: a logo dataset.
    detections: image, brand, confidence, x1, y1, x2, y2 of its photos of splits val and test.
    scan: folder with detections.parquet (the same columns, image: digest of an image on a post) and images.parquet (image, width, height).
    snapshot: folder with posts.parquet (post_id, context_id, created_at, image_digests). Exposure is told where both are named.
    """

    dataset: Path
    detections: Path
    scan: Path | None = None
    snapshot: Path | None = None


def of_the_stage() -> Inputs:
    """The stage's own files."""
    return Inputs(LOGO_DATASET, LOGO_DETECTIONS, LOGO_SCAN, SNAPSHOT)


def read_detections(path: Path, data: Dataset) -> pd.DataFrame:
    """Detections on photos of a dataset.

    Raises:
        BadUse: the table cannot be read, lacks a column, or names a photo that is not in the dataset.
    """
    table = _detections(path, "`upheld logo train` writes one")
    if strangers := sorted(set(table["image"]) - set(data.images["digest"])):
        raise BadUse(f"{path}: column image: {strangers[0]!r} is no photo of the dataset ({len(strangers)} such)")
    return table


def read_exposure(scan: Path, snapshot: Path, brands: Sequence[str], threshold: float) -> pd.DataFrame:
    """Appearances of the brands on the posts of a snapshot.

    Args:
        scan: see Inputs; an image of a post that is not in it was not looked at, and is not counted as an image.
        snapshot: see Inputs.
        brands: that the detector knows.
        threshold: confidence from which a detection counts.

    Returns:
        the columns of `exposure.COLUMNS`.

    Raises:
        BadUse: a table cannot be read or lacks a column, or a detection's image has no size.
    """
    found = _detections(scan / "detections.parquet", "the stage logo_scan writes it")
    sizes = _read(scan / "images.parquet", ("image", "width", "height"), "the stage logo_scan writes it")
    posts = _read(snapshot / POSTS_FILE, ("post_id", "context_id", "created_at", "image_digests"), "the stage snapshot writes it")
    shown = posts[["post_id", "image_digests"]].explode("image_digests").rename(columns={"image_digests": "image"}).dropna()
    images = shown.astype({"image": "str"}).merge(sizes.astype({"image": "str"}), on="image", validate="many_to_one")
    if strangers := sorted(set(found["image"]) - set(sizes["image"])):
        raise BadUse(f"{scan / 'detections.parquet'}: column image: {strangers[0]!r} is not in images.parquet ({len(strangers)} such)")
    return exposure(found[found["image"].isin(images["image"])], images, posts, dict.fromkeys(brands, threshold))


def _detections(path: Path, source: str) -> pd.DataFrame:
    table = _read(path, DETECTIONS, source)
    try:
        return table.astype({"image": "str", "brand": "str", **dict.fromkeys(("confidence", *CORNERS), "float64")})
    except (TypeError, ValueError) as error:
        raise BadUse(f"{path}: {error}; confidence and corners are numbers; {source}") from error


def _read(path: Path, wanted: Sequence[str], source: str) -> pd.DataFrame:
    try:
        table = pd.read_parquet(path)
    except (OSError, pa.ArrowException) as error:
        raise BadUse(f"{path}: not a readable table ({error}); {source}") from error
    if missing := [name for name in wanted if name not in table]:
        raise BadUse(f"{path}: no column {missing[0]!r}; expected {', '.join(wanted)}; {source}")
    return table[list(wanted)]
