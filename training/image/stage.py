"""Stage `image`: train the image classifier, its head alone or all of it, on the snapshot's labels of posts with images.

usage: python -m upheld.training.image.stage     in a workspace that holds data/snapshot
"""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import PIL
import torch
from accelerate import PartialState
from PIL import Image, ImageEnhance

from upheld.common.command import PARAM_OPTIONS, STORE_FOLDER, Output, ParamOptions, StoreFolder, command
from upheld.common.errors import BadUse
from upheld.common.files import replacing_folder
from upheld.common.params import params as parameters
from upheld.feature_store.backbones.devices import best_device
from upheld.feature_store.backbones.vectors import Lane, image_version
from upheld.feature_store.contracts import hashing
from upheld.feature_store.contracts.snapshot import pins_of, read_snapshot
from upheld.feature_store.contracts.workspace import IMAGE_MODEL, NGRAM_MODEL, SNAPSHOT
from upheld.feature_store.decoding import images
from upheld.feature_store.decoding.images import Picture
from upheld.feature_store.features.media import pictures_of
from upheld.feature_store.features.shards import Shards, filled
from upheld.feature_store.features.table import NO_FEATURES, PinnedFeatures
from upheld.training.image.adversarial import adversarial_loss
from upheld.training.image.model import ImageModel, build_image, picture_features, predict_pictures
from upheld.training.loop import classifier as stage
from upheld.training.loop import processes, teacher
from upheld.training.loop.examples import Array, Examples, Rows, labelled_posts, targets_of
from upheld.training.loop.head import NONE_KNOWN

ReadImages = Callable[[Sequence[str]], Iterable[tuple[str, bytes]]]  # digests of pictures -> (digest, bytes) of each, in any order
# What the checkpoint depends on: the packages of the stage in dvc.yaml, all that lies in them.
CODE = (
    "upheld.feature_store.backbones",
    "upheld.feature_store.contracts",
    "upheld.feature_store.decoding",
    "upheld.feature_store.features",
    "upheld.feature_store.ledger",
    "upheld.training.image",
    "upheld.training.loop",
)


def run(
    params: parameters.Params,
    snapshot: Path,
    chosen: Path,
    read_images: ReadImages,
    model: Path,
    store: Path,
    features: PinnedFeatures = NO_FEATURES,
) -> stage.Result:
    """Train the image classifier on the posts of split train that have pictures or videos, choose its epoch on split val, and write it.

    Args:
        params: `image`, `teacher`, `compute`, `policies` and `seed` are read.
        snapshot: folder of the stage snapshot.
        chosen: folder of the stage ngrams, which says how much the model in production teaches.
        read_images: gives the bytes of images by digest.
        model: folder to write; replaced as a whole. Without a labelled image it says so, and holds no weights.
        store: holds the progress of runs that were killed.
        features: the pinned tables, whose embeddings a head is fitted on where they are of the same backbone; others are computed.

    Raises:
        FailedWork: an image of the snapshot is not in the store.
        BadUse: the backbone cannot be loaded.
    """
    data = read_snapshot(snapshot)
    labelled = (labelled_posts(data, split, params.policies) for split in ("train", "val"))
    train, val = (posts[posts.image_digests.map(lambda names: names is not None and len(names) > 0)] for posts in labelled)
    train, val = train.reset_index(drop=True), val.reset_index(drop=True)
    if train.empty:
        reason = "no labelled post of split train has an image"
        with replacing_folder(model) as unfinished:
            stage.save_untrained(unfinished, reason, params.policies)
        return stage.Result(trained=False, reason=reason, num_train_posts=0)
    lesson = teacher.lesson(data, params, "image", chosen)
    train = pd.concat([train, lesson.pupils], ignore_index=True)
    classifier = prepare(params)
    parts = [
        params.image.model_dump(),
        params.teacher.model_dump(),
        params.compute.model_dump(),
        lesson.weight,
        params.policies,
        params.seed,
        hashing.of_folder(snapshot),
        classifier.setup.backbone_digest,
    ]
    folder = stage.checkpoint_folder(store, "image", CODE, *parts)
    of_train, of_val = ({name for digests in posts.image_digests for name in digests} for posts in (train, val))
    known: Mapping[str, Array] = NONE_KNOWN
    if params.image.mode != "full":
        versions = [image_version(params.image.backbone, params.image.size, lane) for lane in get_args(Lane)]
        known = next(filter(None, (features.vectors("image_embedding", version, of_train) for version in versions)), NONE_KNOWN)
    needed = of_val | (of_train - known.keys() if params.image.mode == "head" else of_train)
    shards = pictures(store, needed, classifier.setup.size, read_images)
    progress = folder / "progress.safetensors"
    fitted, samples_per_s = fit_image(classifier, train, val, lesson.examples, data.examples, params, shards, progress, known)
    with stage.publishing(model, folder) as unfinished:
        if unfinished:
            stage.save_model(
                classifier, unfinished, {**fitted, "teacher_weight": lesson.weight, "synthetic": bool(data.manifest["synthetic"])}
            )
    return stage.Result(True, None, len(train), fitted["best_epoch"], fitted["val"], samples_per_s)


def pictures(store: Path, names: Iterable[str], size: int, read_images: ReadImages) -> Shards:
    """Pictures by digest, uint8 (size, size, 3), decoded now where no run has done so yet.

    Args:
        store: the store folder.
        names: digests of the pictures wanted.
        size: side in pixels.
        read_images: gives the bytes of pictures by digest.

    Raises:
        FailedWork: a picture is not in the store.
    """
    rule = hashing.of_json([hashing.of_code([images.__name__]), PIL.__version__])[:12]  # another rule of decoding makes a folder of its own

    def decoded(wanted: Sequence[str]) -> Iterable[tuple[str, Picture]]:
        return ((name, images.decode_square(raw, size)) for name, raw in read_images(wanted))

    with PartialState().main_process_first():  # the others then find them decoded
        return filled(Shards(store / "decoded" / f"pictures-{size}-{rule}", np.uint8), "pictures", names, decoded)


def prepare(params: parameters.Params) -> ImageModel:
    """An untrained classifier as the params want it.

    Raises:
        BadUse: the backbone cannot be loaded, or cannot compute its activations again; or a head alone should learn from attacks.
    """
    if params.image.adversarial_eps and params.image.mode == "head":
        raise BadUse("image.adversarial_eps: a head alone learns nothing from attacks; set image.mode=head-then-full, or the eps to 0")
    torch.manual_seed(params.seed)
    model = build_image(params.image.backbone, params.policies, params.image.size, params.image.dropout)
    if params.image.gradient_checkpointing:
        if not hasattr(model.network, "set_grad_checkpointing"):
            raise BadUse(
                f"image.gradient_checkpointing: {params.image.backbone!r} keeps its activations; set it to false, or name a timm network"
            )
        model.network.set_grad_checkpointing()  # type: ignore[operator]
    return model


def fit_image(
    model: ImageModel,
    train: pd.DataFrame,
    val: pd.DataFrame,
    examples: pd.DataFrame,
    val_examples: pd.DataFrame,
    params: parameters.Params,
    shards: Shards,
    checkpoint: Path,
    known: Mapping[str, Array] = NONE_KNOWN,
) -> tuple[dict[str, Any], float | None]:
    """Train a prepared classifier in place.

    Args:
        model: from `prepare`.
        train: posts to learn from: post_id, image_digests (never empty), num_frames.
        val: posts to choose the epoch on; may be empty.
        examples: labels to learn from: post_id, category, label, weight.
        val_examples: reviewers' labels to choose the epoch by, likewise.
        params: `image`, `compute`, `policies` and `seed` are read.
        shards: the decoded pictures of both.
        checkpoint: file for progress.
        known: features of pictures, as for `picture_features`.

    Returns:
        the record for metadata.json, and samples/s.
    """
    names, num_frames = train.image_digests.map(list).tolist(), train.num_frames.tolist()
    val_names, val_frames = val.image_digests.map(list).tolist(), val.num_frames.tolist()
    most = params.image.step_frames

    def inputs(rows: Rows, seed: int) -> dict[str, torch.Tensor]:
        random = np.random.default_rng(seed)
        drawn = [_drawn(names[row], num_frames[row], most, random) for row in rows]
        return model.collate(
            [[augmented(shards[name], random) for name in post] for post in drawn], [min(num_frames[row], most) for row in rows]
        )

    def predict_val() -> Array:
        return predict_pictures(model, val_names, shards.__getitem__, val_frames)

    costs = np.array([len(post) - max(0, number - most) for post, number in zip(names, num_frames, strict=True)], np.int64)
    post_ids = train.post_id.tolist()
    rows = Examples(post_ids, *targets_of(examples, post_ids, params.policies), costs, inputs)
    val_targets, val_weights = targets_of(val_examples, val.post_id.tolist(), params.policies)
    on_gpu = best_device().type != "cpu"  # a CPU's convolutions are slower in bfloat16: 7 images/s against 11 (measured)

    def features() -> Array:
        """What the head sees of the posts to learn from."""
        return picture_features(model, names, shards.__getitem__, num_frames, known)

    def hardened(loss: Callable[[dict[str, torch.Tensor]], torch.Tensor], some: dict[str, torch.Tensor]) -> torch.Tensor:
        """The loss on pictures that an attack has changed, too."""
        return adversarial_loss(loss, some, model.setup, params.image.adversarial_eps / 255)

    task = stage.Task(
        model,
        params.policies,
        params.image,
        params.seed,
        rows,
        val_targets,
        val_weights,
        predict_val,
        on_gpu,
        params.compute.lane,
        features=features,
        hardened=hardened if params.image.adversarial_eps else None,
    )
    return stage.train(task, checkpoint)


def _drawn(names: Sequence[str], num_frames: int, most: int, random: np.random.Generator) -> list[str]:
    """A post's stills and at most `most` of its frames, the last `num_frames` of its pictures, in their order."""
    if num_frames <= most:
        return list(names)
    first = len(names) - num_frames
    return [*names[:first], *(names[first + place] for place in sorted(random.choice(num_frames, most, replace=False)))]


MIN_CROP_SHARE = 0.7  # of each side: logos and drawn text sit at borders, harder crops would cut what the label is about
JITTER = 0.2  # relative change of brightness and contrast


def augmented(picture: Picture, random: np.random.Generator) -> Picture:
    """A random crop of a square picture at its old size, its brightness and contrast changed a little.

    Pictures are not mirrored: drawn text and logos do not survive it.
    """
    size = picture.shape[0]
    side = size * random.uniform(MIN_CROP_SHARE, 1)
    left, top = random.uniform(0, size - side, 2)
    image = Image.fromarray(picture).resize((size, size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast):
        image = enhance(image).enhance(1 + random.uniform(-JITTER, JITTER))
    return np.asarray(image, np.uint8)


@command("image")
def main(asked: ParamOptions = PARAM_OPTIONS, store: StoreFolder = STORE_FOLDER) -> Output:
    """Train the image classifier on the snapshot's labels."""
    params = parameters.load(*asked)
    processes.together("upheld.training.image.stage", params.compute.processes)
    data = read_snapshot(SNAPSHOT)
    posts = pd.concat([data.posts, data.unreviewed], ignore_index=True)
    pins = pins_of(data.manifest)
    features = PinnedFeatures(pins.location(store), pins.features)
    result = run(params, SNAPSHOT, NGRAM_MODEL, pictures_of(store, posts, pins), IMAGE_MODEL, store, features)
    speed = "" if result.samples_per_s is None else f", {result.samples_per_s:.1f} samples/s"
    trained = f"image: {result.num_train_posts} posts, epoch {result.best_epoch} kept{speed}"
    return Output(asdict(result), lambda: processes.tell(trained if result.trained else f"image: untrained, {result.reason}"))


if __name__ == "__main__":
    sys.exit(main())
