"""Find brand marks on photos.

usage: upheld logo detect IMAGES --model models/logo --out D
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from upheld.common.command import PARAM_OPTIONS, STORE_FOLDER, Output, ParamOptions, StoreFolder, command
from upheld.common.errors import BadUse, FailedWork
from upheld.common.files import write_parquet
from upheld.common.params import params as parameters
from upheld.common.terminal import console
from upheld.feature_store.contracts.workspace import LOGO_MODEL
from upheld.feature_store.decoding.contract import Refused
from upheld.feature_store.logos.dataset.dataset import checked_bytes
from upheld.feature_store.logos.sources.inspection import inspect_photos, photo_bytes
from upheld.training.logos import detector as logo_detector

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")


@dataclass(frozen=True)
class Result:
    """Photos looked at, those that could not be (name and reason), and marks found."""

    num_photos: int
    refused: list[dict[str, str]]
    num_detections: int


def run(params: parameters.Params, images: Path, model: Path, out: Path) -> Result:
    """Write detections.parquet and refused.parquet (image, reason, detail).

    Args:
        params: `logo_data.max_pixels` is read.
        images: a photo, or a folder that is searched for photos.
        model: folder of a trained detector.
        out: folder to write.

    Raises:
        BadUse: there is no photo.
        FailedWork: the detector is missing, damaged or was left untrained, or a photo changed while it was looked at.
    """
    files = [images] if images.is_file() else sorted(path for path in images.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not files:
        raise BadUse(f"{images}: no photo here ({', '.join(SUFFIXES)})")
    detector = logo_detector.load(model)
    if detector is None:
        raise FailedWork(f"{model}: holds no detector, there was nothing to train it on; train one with `upheld logo train`")
    refused: list[dict[str, str]] = []

    def readable() -> Iterator[tuple[str, bytes]]:
        """Photos that decode in a confined worker; only then are they decoded here."""
        for file, seen in inspect_photos(((file, photo_bytes(file, params.logo_data)) for file in files), params.logo_data):
            name = file.name if file == images else str(file.relative_to(images))
            if isinstance(seen, Refused):
                refused.append({"image": name, "reason": seen.reason, "detail": seen.detail})
            else:
                yield name, checked_bytes(file, seen.digest)

    found = logo_detector.detect(detector, readable(), params.logo_data.max_pixels).detections
    for table, name in ((found, "detections"), (pd.DataFrame(refused, columns=["image", "reason", "detail"]), "refused")):
        write_parquet(out / f"{name}.parquet", table)
    return Result(len(files) - len(refused), refused, len(found))


@command("logo detect")
def main(
    images: Annotated[Path, typer.Argument(help="A photo, or a folder of photos.")],
    model: Annotated[Path, typer.Option(help="Folder of a trained detector.")] = LOGO_MODEL,
    out: Annotated[Path, typer.Option(help="Folder for detections.parquet and refused.parquet.")] = Path("logo_detections"),
    asked: ParamOptions = PARAM_OPTIONS,
    store: StoreFolder = STORE_FOLDER,
) -> Output:
    """Find brand marks on photos."""
    result = run(parameters.load(*asked, store), images, model, out)
    refused = f", {len(result.refused)} refused ({out}/refused.parquet says why)" if result.refused else ""
    text = f"{result.num_detections} marks on {result.num_photos} photos{refused}: {out}/detections.parquet"
    return Output(asdict(result), lambda: console().print(text))
