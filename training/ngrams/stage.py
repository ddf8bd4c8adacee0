"""Stage `ngrams`: the character n-gram classifier, and the weight with which the model in production teaches all classifiers.

usage: python -m upheld.training.ngrams.stage     in a workspace that holds data/snapshot
"""

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix
from sklearn.metrics import roc_auc_score

from upheld.common.command import PARAM_OPTIONS, Output, ParamOptions, command
from upheld.common.files import replacing_folder
from upheld.common.params import params as parameters
from upheld.common.terminal import console
from upheld.feature_store.contracts.snapshot import Snapshot, read_snapshot
from upheld.feature_store.contracts.workspace import NGRAM_MODEL, SNAPSHOT
from upheld.training.loop import teacher
from upheld.training.loop.classifier import save_untrained
from upheld.training.loop.examples import Array, labelled_posts, targets_of
from upheld.training.loop.logistic import fit_soft, worth_fitting
from upheld.training.loop.losses import MIN_LABELS
from upheld.training.ngrams.model import MIN_TEXTS, NgramModel, NgramSetup, probabilities, save_ngrams, vectoriser_of


@dataclass(frozen=True)
class Result:
    """What the stage did: posts with a label and posts taught by the model in production alone, the weight that this got, and the mean
    ROC-AUC on split val with each weight that was tried (None where val has too few labels to tell)."""

    trained: bool
    reason: str | None
    num_reviewed: int = 0
    num_unreviewed: int = 0
    teacher_weight: float = 0.0
    tried: dict[str, float | None] | None = None


@dataclass(frozen=True)
class Validation:
    """Posts of split val: features (M, V), and of each policy its labels (M,) in {0, 1, NaN} and weights 1/inclusion_prob."""

    features: csr_matrix
    labels: pd.DataFrame
    weights: pd.DataFrame


def run(params: parameters.Params, snapshot: Path, model: Path) -> Result:
    """Train the n-gram classifier with each weight of the teacher, keep the one that ranks split val best, and write it.

    Args:
        params: `ngrams`, `teacher`, `policies` and `seed` are read.
        snapshot: folder of the stage snapshot.
        model: folder to write; replaced as a whole. Without a text to learn from it says so, and holds no coefficients.

    Raises:
        FailedWork: the snapshot is missing or unreadable.
    """
    data = read_snapshot(snapshot)
    reviewed, val = (with_text(labelled_posts(data, split, params.policies)) for split in ("train", "val"))
    soft, account = teacher.soft_labels(data, params.policies)
    weights = params.teacher.weights if len(soft) else (0.0,)
    unreviewed = with_text(data.unreviewed) if max(weights) > 0 else data.unreviewed.head(0)
    posts = pd.concat([reviewed, unreviewed[reviewed.columns]], ignore_index=True)
    with replacing_folder(model) as folder:
        if reviewed.empty or len(posts) < MIN_TEXTS:
            reason = "no labelled post of split train has a text" if reviewed.empty else f"fewer than {MIN_TEXTS} texts to learn from"
            save_untrained(folder, reason, params.policies)
            teacher.save_weight(folder, weights[0], {}, account)
            return Result(trained=False, reason=reason)
        vectoriser = vectoriser_of(params.ngrams.ngram_range, params.ngrams.max_features)
        features = vectoriser.fit_transform(posts["text"])
        held_out = _validation(data, val, vectoriser)
        best: NgramModel | None = None
        chosen, best_score, tried = weights[0], -np.inf, {}
        for weight in weights:
            examples = teacher.taught(data.examples, soft, weight)
            fitted = _fit(params, vectoriser, features, *targets_of(examples, posts["post_id"].tolist(), params.policies))
            score = mean_area(fitted, held_out)
            tried[f"{weight:g}"] = score
            if best is None or (score is not None and score > best_score):
                best, chosen, best_score = fitted, weight, -np.inf if score is None else score
        assert best is not None
        counts = {"num_train_posts": len(posts), "num_reviewed": len(reviewed), "num_unreviewed": len(unreviewed)}
        metadata = {**counts, "params": params.ngrams.model_dump(), "val": {"roc_auc_weighted": tried[f"{chosen:g}"]}}
        save_ngrams(best, folder, {**metadata, "synthetic": bool(data.manifest["synthetic"])})
        teacher.save_weight(folder, chosen, tried, account)
    return Result(True, None, len(reviewed), len(unreviewed), chosen, tried)


def with_text(posts: pd.DataFrame) -> pd.DataFrame:
    """The posts whose text is not blank."""
    return posts[posts["text"].fillna("").str.strip() != ""].reset_index(drop=True)


def _fit(params: parameters.Params, vectoriser: Any, features: csr_matrix, targets: Array, weights: Array) -> NgramModel:
    """A model of the policies that have both classes among what speaks of them."""
    policies, coefficients, intercepts = [], [], []
    for column, policy in enumerate(params.policies):
        known = weights[:, column] > 0
        label, weight = targets[known, column], weights[known, column]
        if not worth_fitting(label, weight):
            continue
        slopes, intercept = fit_soft(features[np.flatnonzero(known)], label, weight, params.ngrams.inverse_l2)
        policies.append(policy)
        coefficients.append(slopes)
        intercepts.append(intercept)
    setup = NgramSetup(tuple(policies), params.ngrams.ngram_range)
    width = features.shape[1]
    stacked = np.stack(coefficients) if coefficients else np.empty((0, width), np.float32)
    return NgramModel(setup, vectoriser, stacked, np.array(intercepts, np.float32))


def _validation(data: Snapshot, val: pd.DataFrame, vectoriser: Any) -> Validation:
    examples = data.examples[data.examples["inclusion_prob"].notna()].assign(weight=lambda rows: 1 / rows["inclusion_prob"])
    cells = {
        name: examples.pivot(index="post_id", columns="category", values=name).reindex(val["post_id"]) for name in ("hard_label", "weight")
    }
    features = vectoriser.transform(val["text"]) if len(val) else csr_matrix((0, len(vectoriser.vocabulary_)), dtype=np.float32)
    return Validation(features, cells["hard_label"].astype("float64"), cells["weight"].astype("float64"))


def mean_area(model: NgramModel, val: Validation) -> float | None:
    """Mean over policies of the ROC-AUC on split val, weighted by 1/inclusion_prob: as if every post had been reviewed.

    A policy with fewer than MIN_LABELS labels of a class does not count; None where none counts.
    """
    probs = probabilities(model, val.features)
    areas = []
    for column, policy in enumerate(model.setup.policies):
        if policy not in val.labels:
            continue
        label, weight = val.labels[policy].to_numpy(), val.weights[policy].to_numpy()
        known = np.isfinite(label) & np.isfinite(weight)
        if min((label[known] == 1).sum(), (label[known] == 0).sum()) >= MIN_LABELS:
            areas.append(float(roc_auc_score(label[known], probs[known, column], sample_weight=weight[known])))
    return float(np.mean(areas)) if areas else None


@command("ngrams")
def main(asked: ParamOptions = PARAM_OPTIONS) -> Output:
    """Train the n-gram classifier, and choose how much the model in production teaches."""
    with console().status("ngrams: character n-grams, with and without the scores of the model in production"):
        result = run(parameters.load(*asked), SNAPSHOT, NGRAM_MODEL)
    taught = f"{result.num_unreviewed} unreviewed posts at weight {result.teacher_weight:g}"
    text = f"ngrams: {result.num_reviewed} reviewed posts, {taught}" if result.trained else f"ngrams: untrained, {result.reason}"
    return Output(asdict(result), lambda: console().print(text))


if __name__ == "__main__":
    sys.exit(main())
