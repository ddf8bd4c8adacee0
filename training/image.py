"""Stage `image`: fine-tune the image classifier on the snapshot's labels of posts with images.

usage: python -m training.image     in a workspace that holds data/snapshot
"""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from feature_store import digest
from feature_store import params as parameters
from feature_store.atomic import replacing_folder
from feature_store.backbones.devices import best_device
from feature_store.command import PARAMS_FILE, AsJson, Overrides, ParamsFile, StoreFolder, console, execute
from feature_store.ledger import Ledger
from training import stage
from training.data import Array, Examples, Rows, labelled_posts, read_snapshot, targets_of
from training.image_augmentation import augmented
from training.image_cache import PictureCache
from training.image_model import ImageModel, ReadImages, build_image, predict_pictures, save_image, save_untrained_image

SNAPSHOT = Path("data/snapshot")
MODEL = Path("models/image")


@dataclass(frozen=True)
class Result:
    """What the stage did; `reason` says why there is no model where there is none."""

    trained: bool
    reason: str | None
    num_train_posts: int
    best_epoch: int | None = None
    val: dict[str, Any] | None = None
    samples_per_s: float | None = None


def run(params: parameters.Params, snapshot: Path, read_images: ReadImages, model: Path, store: Path) -> Result:
    """Train the image classifier on the posts of split train that have images, choose its epoch on split val, and write it.

    Args:
        params: `image`, `policies` and `seed` are read.
        snapshot: folder of posts.parquet, examples.parquet and manifest.json.
        read_images: gives the bytes of images by digest.
        model: folder to write; replaced as a whole. Without a labelled image it says so, and holds no weights.
        store: holds the progress of runs that were killed.

    Raises:
        FailedWork: an image of the snapshot is not in the store.
        BadUse: the backbone cannot be loaded.
    """
    data = read_snapshot(snapshot)
    train, val = (_with_images(labelled_posts(data, split, params.policies)) for split in ("train", "val"))
    if train.empty:
        reason = "no labelled post of split train has an image"
        with replacing_folder(model) as unfinished:
            save_untrained_image(unfinished, reason, params.policies)
        return Result(trained=False, reason=reason, num_train_posts=0)
    classifier = prepare(params)
    parts = [params.image.model_dump(), params.policies, params.seed, digest.of_folder(snapshot), classifier.setup.backbone_digest]
    folder = stage.checkpoint_folder(store, "image", *parts)
    fitted, samples_per_s = fit_image(classifier, train, val, data.examples, params, read_images, folder)
    with stage.publishing(model, folder) as unfinished:
        if unfinished:
            save_image(classifier, unfinished, {**fitted, "synthetic": bool(data.manifest["synthetic"])})
    return Result(True, None, len(train), fitted["best_epoch"], fitted["val"], samples_per_s)


def prepare(params: parameters.Params) -> ImageModel:
    """An untrained classifier as the params want it."""
    torch.manual_seed(params.seed)
    return build_image(params.image.backbone, params.policies, params.image.size, params.image.dropout)


def fit_image(
    model: ImageModel,
    train: pd.DataFrame,
    val: pd.DataFrame,
    examples: pd.DataFrame,
    params: parameters.Params,
    read_images: ReadImages,
    folder: Path,
) -> tuple[dict[str, Any], float | None]:
    """Train a prepared classifier in place.

    Args:
        model: from `prepare`.
        train: posts to learn from: post_id, image_digests (never empty).
        val: posts to choose the epoch on; may be empty.
        examples: labels: post_id, category, label, weight.
        params: `image`, `policies` and `seed` are read.
        read_images: gives the bytes of images by digest.
        folder: for progress and, while training runs, decoded pictures.

    Returns:
        the record for metadata.json, and samples/s.
    """
    size = model.setup.size
    with PictureCache(folder, [*train.image_digests, *val.image_digests], size, read_images) as pictures:
        train_digests, val_digests = train.image_digests.tolist(), val.image_digests.tolist()

        def inputs(rows: Rows, seed: int) -> dict[str, torch.Tensor]:
            random = np.random.default_rng(seed)
            return model.collate([[augmented(pictures[name], random) for name in train_digests[row]] for row in rows])

        def predict_val() -> Array:
            return predict_pictures(model, [[pictures[name] for name in names] for names in val_digests])

        costs = train.image_digests.map(len).to_numpy(np.int64)
        rows = Examples(*targets_of(examples, train.post_id.tolist(), params.policies), costs, inputs)
        val_targets, val_weights = targets_of(examples, val.post_id.tolist(), params.policies)
        on_gpu = best_device().type != "cpu"  # a CPU's convolutions are slower in bfloat16: 7 images/s against 11 (measured)
        task = stage.Task(model, params.policies, params.image, params.seed, rows, val_targets, val_weights, predict_val, on_gpu)
        return stage.train(task, folder / "progress.safetensors")


def _with_images(posts: pd.DataFrame) -> pd.DataFrame:
    return posts[posts.image_digests.map(lambda digests: digests is not None and len(digests) > 0)].reset_index(drop=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stage in the working directory. Returns the exit code."""
    here = Path(os.environ.get("UPHELD_STORE", "store"))

    def image(params: ParamsFile = PARAMS_FILE, set_: Overrides = [], store: StoreFolder = here, as_json: AsJson = False) -> None:  # noqa: B006
        """Fine-tune the image classifier on the snapshot's labels."""
        version = read_snapshot(SNAPSHOT).manifest["tables"]["media"]
        read_images = partial(Ledger(store).media_bytes, version=version)
        result = run(parameters.load(params, set_), SNAPSHOT, read_images, MODEL, store)
        if as_json:
            print(json.dumps(asdict(result)))
        elif result.trained:
            speed = "" if result.samples_per_s is None else f", {result.samples_per_s:.1f} samples/s"
            console().print(f"image: {result.num_train_posts} posts, epoch {result.best_epoch} kept{speed}")
        else:
            console().print(f"image: untrained, {result.reason}")

    return execute(image, "image", argv)


if __name__ == "__main__":
    sys.exit(main())
