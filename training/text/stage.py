"""Stage `text`: train the multilingual text classifier, its head alone or all of it, on the snapshot's labels and the teacher's scores.

usage: python -m upheld.training.text.stage     in a workspace that holds data/snapshot
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import torch

from upheld.common.command import PARAM_OPTIONS, STORE_FOLDER, Output, ParamOptions, StoreFolder, command
from upheld.common.errors import FailedWork
from upheld.common.params import params as parameters
from upheld.feature_store.backbones.devices import best_device
from upheld.feature_store.backbones.vectors import Lane, text_version
from upheld.feature_store.contracts import hashing
from upheld.feature_store.contracts.snapshot import pins_of, read_manifest, read_snapshot
from upheld.feature_store.contracts.workspace import NGRAM_MODEL, SNAPSHOT, TEXT_MODEL
from upheld.feature_store.features.table import NO_FEATURES, PinnedFeatures
from upheld.training.loop import classifier as stage
from upheld.training.loop import processes, teacher
from upheld.training.loop.examples import Array, Examples, Rows, labelled_posts, targets_of
from upheld.training.loop.head import NONE_KNOWN
from upheld.training.loop.losses import validation_figures
from upheld.training.text import lanes
from upheld.training.text.model import TextModel, build_text, load_text, predict_text, save_text, text_features

# What the checkpoint depends on: the packages of the stage in dvc.yaml, all that lies in them.
CODE = (
    "upheld.feature_store.backbones",
    "upheld.feature_store.contracts",
    "upheld.feature_store.features",
    "upheld.feature_store.ledger",
    "upheld.training.loop",
    "upheld.training.text",
)


@dataclass(frozen=True)
class Result:
    """What the stage did: posts trained on, and how many of them nobody reviewed; validation figures of the kept epoch, speed, what it
    started from, and the number format that it scores in."""

    num_train_posts: int
    num_unreviewed: int
    best_epoch: int | None
    val: dict[str, Any] | None
    samples_per_s: float | None
    warm_start: dict[str, Any]
    lane: str


def run(
    params: parameters.Params, snapshot: Path, chosen: Path, model: Path, store: Path, features: PinnedFeatures = NO_FEATURES
) -> Result:
    """Train the text classifier on split train and on what the model in production says of it and of unreviewed posts, choose its epoch on
    split val, and write it.

    Args:
        params: `text`, `teacher`, `compute`, `policies` and `seed` are read.
        snapshot: folder of the stage snapshot.
        chosen: folder of the stage ngrams, which says how much the model in production teaches.
        model: folder to write; replaced as a whole.
        store: holds the champion's bundle and the progress of runs that were killed.
        features: the pinned tables, whose embeddings a head is fitted on where they are of the same backbone; others are computed.

    Raises:
        FailedWork: no labelled post of split train has a text, or the champion's bundle is missing.
        BadUse: the backbone cannot be loaded.
    """
    data = read_snapshot(snapshot)
    labelled = (labelled_posts(data, split, params.policies) for split in ("train", "val"))
    train, val = (posts[posts.text.fillna("").str.strip() != ""].reset_index(drop=True) for posts in labelled)
    if train.empty:
        raise FailedWork(f"{snapshot}: no labelled post of split train has a text; ingest more review outcomes")
    classifier = prepare(params)
    lesson = teacher.lesson(data, params, "text", chosen)
    train = pd.concat([train, lesson.pupils], ignore_index=True)
    warm_start = {"used": False}
    if params.text.warm_start and params.text.mode != "head":  # a head is fitted on the backbone's own features
        warm_start = _start_from_champion(classifier, data.manifest.get("champion"), store)
    parts = [
        params.text.model_dump(),
        params.teacher.model_dump(),
        params.compute.model_dump(),
        lesson.weight,
        params.policies,
        params.seed,
        hashing.of_folder(snapshot),
        classifier.setup.backbone_digest,
    ]
    folder = stage.checkpoint_folder(store, "text", CODE, *parts, warm_start)
    progress = folder / "progress.safetensors"
    known: Mapping[str, Array] = NONE_KNOWN
    if params.text.mode != "full" and not warm_start["used"]:
        digests = {hashing.of_bytes(text.encode()) for text in train.text}
        versions = [text_version(params.text.backbone, params.text.prefix, params.text.max_tokens, lane) for lane in get_args(Lane)]
        known = next(filter(None, (features.vectors("text_embedding", version, digests) for version in versions)), NONE_KNOWN)
    fitted, samples_per_s = fit_text(classifier, train, val, lesson.examples, data.examples, params, progress, warm_start["used"], known)
    with stage.publishing(model, folder) as unfinished:
        if unfinished:
            scoring = {"lane": "fp32", "reason": "text.scoring_lane is fp32", "gate": None}
            if params.text.scoring_lane == "fastest":
                targets, weights = targets_of(data.examples, val.post_id.tolist(), params.policies)
                scoring = lanes.choose(classifier, val.text.tolist(), targets, weights, val.language.tolist())
            save_text(
                classifier,
                unfinished,
                {
                    **fitted,
                    "scoring": scoring,
                    "teacher_weight": lesson.weight,
                    "warm_start": warm_start,
                    "synthetic": bool(data.manifest["synthetic"]),
                },
            )
    return Result(len(train), len(lesson.pupils), fitted["best_epoch"], fitted["val"], samples_per_s, warm_start, classifier.setup.lane)


def prepare(params: parameters.Params) -> TextModel:
    """An untrained classifier as the params want it, its head drawn from the seed and its word embeddings frozen or not."""
    torch.manual_seed(params.seed)
    text = params.text
    model = build_text(text.backbone, params.policies, text.max_tokens, text.prefix, text.dropout)
    embeddings = model.encoder.get_input_embeddings()  # type: ignore[operator]
    # Frozen ones are trained upon in the format in which they are saved, so that the saved model is the validated one.
    embeddings.to(torch.float16 if text.freeze_word_embeddings else torch.float32)
    embeddings.requires_grad_(not text.freeze_word_embeddings)
    if best_device().type == "cpu":  # in bfloat16 torch's fused attention takes 1.6 times as long there as plain matrix products
        model.encoder.set_attn_implementation("eager")  # type: ignore[operator]
    if text.gradient_checkpointing:
        model.encoder.activation_checkpointing_enable()  # type: ignore[operator]
    return model


def fit_text(
    model: TextModel,
    train: pd.DataFrame,
    val: pd.DataFrame,
    examples: pd.DataFrame,
    val_examples: pd.DataFrame,
    params: parameters.Params,
    checkpoint: Path,
    warm: bool = False,
    known: Mapping[str, Array] = NONE_KNOWN,
) -> tuple[dict[str, Any], float | None]:
    """Train a prepared classifier in place.

    Args:
        model: from `prepare`.
        train: posts to learn from: post_id, text.
        val: posts to choose the epoch on: post_id, text, language; may be empty.
        examples: labels to learn from: post_id, category, label, weight.
        val_examples: reviewers' labels to choose the epoch by, likewise.
        params: `text`, `compute`, `policies` and `seed` are read.
        checkpoint: file for progress.
        warm: whether the model has been trained before; the record says then what it ranks better or worse now in each language.
        known: vectors of texts, as for `text_features`.

    Returns:
        the record for metadata.json, and samples/s.
    """
    token_ids = model.encode(train.text.tolist())

    def inputs(rows: Rows, seed: int) -> dict[str, torch.Tensor]:
        return model.collate([token_ids[row] for row in rows])

    costs = np.array([len(tokens) for tokens in token_ids], np.int64)
    post_ids = train.post_id.tolist()
    rows = Examples(post_ids, *targets_of(examples, post_ids, params.policies), costs, inputs)
    val_targets, val_weights = targets_of(val_examples, val.post_id.tolist(), params.policies)
    val_texts = val.text.tolist()

    def predict_val() -> Array:
        return predict_text(model, val_texts)

    task = stage.Task(
        model,
        params.policies,
        params.text,
        params.seed,
        rows,
        val_targets,
        val_weights,
        predict_val,
        use_bfloat16=True,
        lane=params.compute.lane,
        warm=warm,
        features=lambda: text_features(model, train.text.tolist(), known),
    )
    start = predict_text(model.to(best_device()), val_texts) if warm else None
    record, samples_per_s = stage.train(task, checkpoint)
    if start is not None:
        record["since_start"] = ranking_since(start, predict_val(), val_targets, val_weights, val.language.tolist(), params.policies)
    return record, samples_per_s


def ranking_since(
    start: Array, now: Array, targets: Array, weights: Array, languages: Sequence[str], policies: Sequence[str]
) -> list[dict[str, Any]]:
    """What a model that was trained further ranks better or worse than where it started, on the posts of split val.

    Args:
        start, now: probabilities before and after, float32 (M, C).
        targets, weights: labels, float32 (M, C); a weight of 0 is none.
        languages: of the M posts.
        policies: names of the C columns.

    Returns:
        {"language", "category", "labels", "before", "after"} of every cell with enough labels of each class for a ROC-AUC
        (`losses.MIN_LABELS`), by language and category; before and after are ROC-AUCs in [0, 1].
    """
    cells = []
    for language in sorted(set(languages)):
        rows = np.array([row for row, own in enumerate(languages) if own == language])
        before, after = (validation_figures(probs[rows], targets[rows], weights[rows], policies)["roc_auc"] for probs in (start, now))
        labels = (weights[rows] > 0).sum(axis=0)
        cells += [
            {"language": language, "category": policy, "labels": int(labels[c]), "before": before[policy], "after": after[policy]}
            for c, policy in enumerate(policies)
            if before[policy] is not None
        ]
    return cells


def _start_from_champion(model: TextModel, champion: dict[str, Any] | None, store: Path) -> dict[str, Any]:
    """Take over the champion's weights where it has the same encoder; the head's rows go by policy name.

    Returns:
        {"used", "bundle", "reason"} for metadata.json.
    """
    if champion is None:
        return {"used": False, "bundle": None, "reason": "no champion yet"}
    bundle = str(champion["digest"])
    folder = store / "bundles" / bundle / "text"
    if not folder.is_dir():
        raise FailedWork(f"{folder}: the champion's text model is not there; run the task pin again, or set text.warm_start=false")
    other = load_text(folder, "fp32").cpu()
    if other.setup.backbone_digest != model.setup.backbone_digest:
        return {"used": False, "bundle": bundle, "reason": "the champion has another backbone"}
    model.encoder.load_state_dict(other.encoder.state_dict())
    model.norm.load_state_dict(other.norm.state_dict())
    with torch.no_grad():
        for row, policy in enumerate(model.setup.policies):
            if policy in other.setup.policies:
                model.head.weight[row] = other.head.weight[other.setup.policies.index(policy)]
                model.head.bias[row] = other.head.bias[other.setup.policies.index(policy)]
    return {"used": True, "bundle": bundle, "reason": "same backbone"}


@command("text")
def main(asked: ParamOptions = PARAM_OPTIONS, store: StoreFolder = STORE_FOLDER) -> Output:
    """Train the text classifier on the snapshot's labels."""
    params = parameters.load(*asked)
    processes.together("upheld.training.text.stage", params.compute.processes)
    pins = pins_of(read_manifest(SNAPSHOT))
    features = PinnedFeatures(pins.location(store), pins.features)
    result = run(params, SNAPSHOT, NGRAM_MODEL, TEXT_MODEL, store, features)
    speed = "" if result.samples_per_s is None else f", {result.samples_per_s:.1f} samples/s"
    posts = f"{result.num_train_posts} posts, {result.num_unreviewed} of them unreviewed"
    text = f"text: {posts}, epoch {result.best_epoch} kept{speed}, scores in {result.lane}"
    return Output(asdict(result), lambda: processes.tell(text))


if __name__ == "__main__":
    sys.exit(main())
