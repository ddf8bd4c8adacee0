"""Stage `logo`: train the logo detector on a logo dataset, and apply it to the photos that it has not learned from.

usage: python -m upheld.training.logos.stage     in a workspace that holds data/logo
       upheld logo train DATASET --out D
"""

import sys
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer

from upheld.common.command import PARAM_OPTIONS, STORE_FOLDER, Output, ParamOptions, StoreFolder, command
from upheld.common.errors import FailedWork
from upheld.common.files import replacing_folder, write_parquet
from upheld.common.params import params as parameters
from upheld.common.terminal import console
from upheld.feature_store.contracts.workspace import LOGO_DATASET, LOGO_DETECTIONS, LOGO_MODEL
from upheld.feature_store.logos.dataset import dataset as logo_dataset
from upheld.feature_store.logos.dataset.dataset import CORNERS, Dataset
from upheld.training.logos import detector as logo_detector
from upheld.training.logos.detector import Detector
from upheld.training.logos.photos import DETECTIONS, STORED, Backend, Photo, PhotoMap, photo_map
from upheld.training.loop import classifier

# What the checkpoint depends on: the packages of the stage in dvc.yaml, all that lies in them.
CODE = (
    "upheld.feature_store.backbones",
    "upheld.feature_store.contracts",
    "upheld.feature_store.decoding",
    "upheld.feature_store.ledger",
    "upheld.feature_store.logos.dataset",
    "upheld.training.logos",
    "upheld.training.loop",
)


@dataclass(frozen=True)
class Result:
    """What training did; `reason` says why there is no detector where there is none."""

    trained: bool
    reason: str | None
    num_train_photos: int
    num_train_boxes: int
    best_epoch: int | None = None
    map_50: float | None = None


def run(params: parameters.Params, dataset: Path, model: Path, detections: Path, store: Path) -> Result:
    """Train a detector on split train, choose its epoch on split val, write it, and what it finds on splits val and test.

    Args:
        params: `logo`, `logo_data.max_pixels`, `compute.lane` and `seed` are read.
        dataset: a logo dataset.
        model: folder to write; replaced as a whole. Without a box to learn from it says so, and holds no weights.
        detections: table to write, columns of `photos.DETECTIONS`.
        store: holds the ledger's photos, and the progress of runs that were killed.

    Raises:
        BadUse: there is no dataset, or the weights to start from cannot be loaded.
        FailedWork: a photo is gone.
    """
    data = logo_dataset.read(dataset)
    num_photos, num_boxes = (int((table["split"] == "train").sum()) for table in (data.images, data.boxes))
    if num_boxes == 0:
        reason = f"no box of split train among {len(data.images)} photos"
        with replacing_folder(model) as unfinished:
            logo_detector.save_untrained(unfinished, reason)
        write_parquet(detections, pd.DataFrame(columns=list(DETECTIONS)))
        return Result(False, reason, num_photos, 0)
    settings, lane = params.logo, params.compute.lane
    folder = classifier.checkpoint_folder(store, "logo", CODE, settings.model_dump(), lane, params.seed, data.digest)
    with ExitStack() as stack:
        train, val = (stack.enter_context(_photos(data, split, params, store, folder)) for split in ("train", "val"))
        backend: Backend
        if settings.detector == "yolo":
            from upheld.training.logos.yolo import fit_yolo  # AGPL-3.0 and seconds to import: only where it is used

            backend, history = fit_yolo(train, val, data.brands, settings, params.seed, folder)
        else:
            from upheld.training.logos.faster_rcnn import fit_faster_rcnn

            progress = folder / "progress.safetensors"
            backend, fitted = fit_faster_rcnn(train, val, data.brands, settings, params.seed, progress, lane)
            history = fitted.history
    detector = Detector(backend, data.brands, settings.size)
    held_out = data.images.loc[data.images["split"] != "train", "digest"]
    found = logo_detector.detect(detector, logo_dataset.contents(data, held_out, store), params.logo_data.max_pixels).detections
    with classifier.publishing(model, folder) as unfinished:
        if unfinished:
            record = {"params": settings.model_dump(), "lane": lane, "seed": params.seed, "history": history, "dataset": data.digest}
            counts = {"num_train_photos": num_photos, "num_train_boxes": num_boxes, "synthetic": data.synthetic}
            logo_detector.save(detector, unfinished, settings.detector, {**record, **counts})
    write_parquet(detections, found)
    best = max(history, key=lambda epoch: -1.0 if epoch["map_50"] is None else epoch["map_50"])
    return Result(True, None, num_photos, num_boxes, best["epoch"], best["map_50"])


def _photos(data: Dataset, split: str, params: parameters.Params, store: Path, folder: Path) -> AbstractContextManager[PhotoMap]:
    digests = data.images.loc[data.images["split"] == split, "digest"].tolist()
    numbers = {brand: number for number, brand in enumerate(data.brands, start=1)}
    of_photo = dict(list(data.boxes.groupby("digest")))
    empty = data.boxes.iloc[:0]
    marks = [of_photo.get(name, empty) for name in digests]
    photos = [
        Photo(name, rows[list(CORNERS)].to_numpy(np.float32), np.array([numbers[brand] for brand in rows["brand"]], np.int64))
        for name, rows in zip(digests, marks, strict=True)
    ]
    side = round(params.logo.size * STORED)
    return photo_map(photos, logo_dataset.contents(data, digests, store), side, params.logo_data.max_pixels, folder)


@command("logo train")
def main(
    dataset: Annotated[Path, typer.Argument(help="Folder of a logo dataset.")] = LOGO_DATASET,
    out: Annotated[Path | None, typer.Option(help="Folder for `model` and `detections.parquet`.")] = None,
    asked: ParamOptions = PARAM_OPTIONS,
    store: StoreFolder = STORE_FOLDER,
) -> Output:
    """Train the logo detector, and apply it to the photos that it has not learned from."""
    model, detections = (LOGO_MODEL, LOGO_DETECTIONS) if out is None else (out / "model", out / "detections.parquet")
    result = run(parameters.load(*asked), dataset, model, detections, store)
    if out is not None and not result.trained:
        raise FailedWork(f"{dataset}: {result.reason}; add photos with boxes, or compose some with `upheld logo compose`")
    figure = "undefined (no mark in split val)" if result.map_50 is None else f"{result.map_50:.3f}"
    trained = f"logo: {result.num_train_photos} photos, epoch {result.best_epoch} kept, val mAP@50 {figure}"
    return Output(asdict(result), lambda: console().print(trained if result.trained else f"logo: untrained, {result.reason}"))


if __name__ == "__main__":
    sys.exit(main())
