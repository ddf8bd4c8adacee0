"""Stage `audio`: train the sound classifier on the snapshot's labels of posts with sound.

usage: python -m upheld.training.audio.stage     in a workspace that holds data/snapshot
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate import PartialState

from upheld.common.command import PARAM_OPTIONS, STORE_FOLDER, Output, ParamOptions, StoreFolder, command
from upheld.common.files import replacing_folder
from upheld.common.params import params as parameters
from upheld.feature_store.contracts import hashing
from upheld.feature_store.contracts.snapshot import pins_of, read_manifest, read_snapshot
from upheld.feature_store.contracts.workspace import AUDIO_MODEL, NGRAM_MODEL, SNAPSHOT
from upheld.feature_store.features.media import Spectrogram, sounds_of
from upheld.feature_store.features.shards import Shards, filled
from upheld.training.audio.model import AudioModel, build_audio, predict_audio
from upheld.training.loop import classifier as stage
from upheld.training.loop import processes, teacher
from upheld.training.loop.examples import Array, Examples, Rows, labelled_posts, targets_of

ReadSounds = Callable[[Sequence[str]], Iterable[tuple[str, Spectrogram]]]  # digests of sounds -> (digest, spectrogram), in any order
MAX_SCALED = 2000  # sounds, evenly picked, from which the scale of the bands is taken

# What the checkpoint depends on: the packages of the stage in dvc.yaml, all that lies in them.
CODE = (
    "upheld.feature_store.backbones",
    "upheld.feature_store.contracts",
    "upheld.feature_store.features",
    "upheld.feature_store.ledger",
    "upheld.training.audio",
    "upheld.training.loop",
)


def run(params: parameters.Params, snapshot: Path, chosen: Path, read_sounds: ReadSounds, model: Path, store: Path) -> stage.Result:
    """Train the sound classifier on the posts of split train that have sound, choose its epoch on split val, and write it.

    Args:
        params: `audio`, `teacher`, `compute`, `policies` and `seed` are read.
        snapshot: folder of the stage snapshot.
        chosen: folder of the stage ngrams, which says how much the model in production teaches.
        read_sounds: gives the spectrograms of sounds by digest.
        model: folder to write; replaced as a whole. Without a labelled sound it says so, and holds no weights.
        store: holds decoded sounds, and the progress of runs that were killed.

    Raises:
        FailedWork: a sound of the snapshot is not in the store.
    """
    data = read_snapshot(snapshot)
    labelled = (labelled_posts(data, split, params.policies) for split in ("train", "val"))
    train, val = (posts[posts.audio_digests.map(len) > 0].reset_index(drop=True) for posts in labelled)
    if train.empty:
        reason = "no labelled post of split train has sound"
        with replacing_folder(model) as unfinished:
            stage.save_untrained(unfinished, reason, params.policies)
        return stage.Result(trained=False, reason=reason, num_train_posts=0)
    lesson = teacher.lesson(data, params, "audio", chosen)
    train = pd.concat([train, lesson.pupils], ignore_index=True)
    version = pins_of(data.manifest).features["spectrogram"].extractor_version
    names = {name for digests in (*train.audio_digests, *val.audio_digests) for name in digests}
    with PartialState().main_process_first():  # the others then find them decoded
        shards = filled(Shards(store / "decoded" / f"sounds-{version}", np.float16), "sounds", names, read_sounds)
    classifier = prepare(params, train, shards)
    parts = [
        params.audio.model_dump(),
        params.teacher.model_dump(),
        params.compute.model_dump(),
        lesson.weight,
        params.policies,
        params.seed,
        hashing.of_folder(snapshot),
    ]
    folder = stage.checkpoint_folder(store, "audio", CODE, *parts)
    fitted, samples_per_s = fit_audio(
        classifier, train, val, lesson.examples, data.examples, params, shards, folder / "progress.safetensors"
    )
    with stage.publishing(model, folder) as unfinished:
        if unfinished:
            stage.save_model(
                classifier,
                unfinished,
                {**fitted, "teacher_weight": lesson.weight, "spectrogram": version, "synthetic": bool(data.manifest["synthetic"])},
            )
    return stage.Result(True, None, len(train), fitted["best_epoch"], fitted["val"], samples_per_s)


def prepare(params: parameters.Params, train: pd.DataFrame, shards: Shards) -> AudioModel:
    """An untrained classifier as the params want it, its weights drawn from the seed, its scale taken from the training sounds."""
    torch.manual_seed(params.seed)
    names = sorted({name for digests in train.audio_digests for name in digests})
    picked = names[:: -(-len(names) // MAX_SCALED)]
    return build_audio(params.policies, params.audio.channels, params.audio.dropout, (shards[name] for name in picked))


def fit_audio(
    model: AudioModel,
    train: pd.DataFrame,
    val: pd.DataFrame,
    examples: pd.DataFrame,
    val_examples: pd.DataFrame,
    params: parameters.Params,
    shards: Shards,
    checkpoint: Path,
) -> tuple[dict[str, Any], float | None]:
    """Train a prepared classifier in place.

    Args:
        model: from `prepare`.
        train: posts to learn from: post_id, audio_digests (never empty).
        val: posts to choose the epoch on; may be empty.
        examples: labels to learn from: post_id, category, label, weight.
        val_examples: reviewers' labels to choose the epoch by, likewise.
        params: `audio`, `compute`, `policies` and `seed` are read.
        shards: the spectrograms of both.
        checkpoint: file for progress.

    Returns:
        the record for metadata.json, and samples/s.
    """
    names, val_names = train.audio_digests.tolist(), val.audio_digests.map(list).tolist()
    longest = params.audio.step_frames

    def inputs(rows: Rows, seed: int) -> dict[str, torch.Tensor]:
        random = np.random.default_rng(seed)

        def stretch(sound: Spectrogram) -> Spectrogram:
            """At most `longest` frames of a sound, from a random place on."""
            start = int(random.integers(max(len(sound) - longest, 0) + 1))
            return sound[start : start + longest]

        return model.collate([[stretch(shards[name]) for name in names[row]] for row in rows])

    def predict_val() -> Array:
        return predict_audio(model, val_names, shards.__getitem__)

    costs = np.array([sum(min(shards.length(name), longest) for name in post) for post in names], np.int64)
    post_ids = train.post_id.tolist()
    rows = Examples(post_ids, *targets_of(examples, post_ids, params.policies), costs, inputs)
    val_targets, val_weights = targets_of(val_examples, val.post_id.tolist(), params.policies)
    task = stage.Task(
        model, params.policies, params.audio, params.seed, rows, val_targets, val_weights, predict_val, False, params.compute.lane
    )
    return stage.train(task, checkpoint)


@command("audio")
def main(asked: ParamOptions = PARAM_OPTIONS, store: StoreFolder = STORE_FOLDER) -> Output:
    """Train the sound classifier on the snapshot's labels."""
    params = parameters.load(*asked)
    processes.together("upheld.training.audio.stage", params.compute.processes)
    read_sounds = sounds_of(store, pins_of(read_manifest(SNAPSHOT)))
    result = run(params, SNAPSHOT, NGRAM_MODEL, read_sounds, AUDIO_MODEL, store)
    speed = "" if result.samples_per_s is None else f", {result.samples_per_s:.1f} samples/s"
    trained = f"audio: {result.num_train_posts} posts, epoch {result.best_epoch} kept{speed}"
    return Output(asdict(result), lambda: processes.tell(trained if result.trained else f"audio: untrained, {result.reason}"))


if __name__ == "__main__":
    sys.exit(main())
