"""Stage `ngrams`: the character n-gram classifier, and the weight with which the model in production teaches all classifiers.

usage: python -m upheld.training.ngrams.stage     in a workspace that holds data/snapshot
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix
from sklearn.metrics import roc_auc_score

from upheld.common.arrays import Floats
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

RESAMPLES = 200
STANDARD_ERRORS = 2.0


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
    """Train the n-gram classifier with each weight of the teacher, keep the one that split val prefers, and write it.

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
        fitted = {}
        for weight in weights:
            examples = teacher.taught(data.examples, soft, weight)
            fitted[weight] = fit(params, vectoriser, features, *targets_of(examples, posts["post_id"].tolist(), params.policies))
        chosen, areas = preferred(fitted, held_out, params.seed)
        best, tried = fitted[chosen], {f"{weight:g}": area for weight, area in areas.items()}
        counts = {"num_train_posts": len(posts), "num_reviewed": len(reviewed), "num_unreviewed": len(unreviewed)}
        metadata = {**counts, "params": params.ngrams.model_dump(), "val": {"roc_auc_weighted": tried[f"{chosen:g}"]}}
        save_ngrams(best, folder, {**metadata, "synthetic": bool(data.manifest["synthetic"])})
        teacher.save_weight(folder, chosen, tried, account)
    return Result(True, None, len(reviewed), len(unreviewed), chosen, tried)


def with_text(posts: pd.DataFrame) -> pd.DataFrame:
    """The posts whose text is not blank."""
    return posts[posts["text"].fillna("").str.strip() != ""].reset_index(drop=True)


def fit(params: parameters.Params, vectoriser: Any, features: csr_matrix, targets: Array, weights: Array) -> NgramModel:
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


def preferred(fitted: Mapping[float, NgramModel], val: Validation, seed: int) -> tuple[float, dict[float, float | None]]:
    """Choose the weight with which the model in production teaches.

    Args:
        fitted: the model of each weight, the weight first that stands where split val does not tell.
        val: what they are compared on.
        seed: of the bootstrap.

    Returns:
        the first weight, or, of those whose mean ROC-AUC is greater by more than STANDARD_ERRORS of the difference, the one with the
        greatest; and the mean ROC-AUC of each, None where val has too few labels. Its standard error is that of RESAMPLES bootstrap
        samples of posts (Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapter 6). With some ten violations a category the
        difference is mostly chance, and a teacher that is dropped by chance is dearly missed.
    """
    policies = [str(policy) for policy in val.labels if all(policy in model.setup.policies for model in fitted.values())]
    classes = {policy: val.labels[policy][np.isfinite(val.weights[policy])].value_counts() for policy in policies}
    policies = [policy for policy, counts in classes.items() if len(counts) == 2 and counts.min() >= MIN_LABELS]
    if not policies:
        return next(iter(fitted)), dict.fromkeys(fitted)
    probs = {weight: pd.DataFrame(probabilities(model, val.features), columns=model.setup.policies) for weight, model in fitted.items()}
    num = val.features.shape[0]
    areas = {weight: mean_area(of_weight, val, policies, np.ones(num)) for weight, of_weight in probs.items()}
    first = chosen = next(iter(fitted))
    random = np.random.default_rng(seed)
    samples = [random.multinomial(num, np.full(num, 1 / num)).astype(np.float64) for _ in range(RESAMPLES)]
    for weight in sorted(fitted, key=lambda weight: areas[weight]):
        if areas[weight] > areas[first]:
            gains = [mean_area(probs[weight], val, policies, counts) - mean_area(probs[first], val, policies, counts) for counts in samples]
            if areas[weight] - areas[first] > STANDARD_ERRORS * np.nanstd(gains, ddof=1):
                chosen = weight
    return chosen, dict(areas)


def mean_area(probs: pd.DataFrame, val: Validation, policies: Sequence[str], counts: Floats) -> float:
    """Mean over policies of the ROC-AUC on split val, weighted by 1/inclusion_prob: as if every post had been reviewed.

    Args:
        probs: (M, C), a column a policy.
        val: labels and weights of the M posts.
        policies: those to average over.
        counts: (M,) >= 0, how often each post stands in the sample.

    Returns:
        NaN where the sample lacks a class of a policy.
    """
    areas = []
    for policy in policies:
        label, weight = val.labels[policy].to_numpy(), val.weights[policy].to_numpy() * counts
        known = np.isfinite(label) & (weight > 0)
        if len(np.unique(label[known])) < 2:
            return float("nan")
        areas.append(float(roc_auc_score(label[known], probs[policy].to_numpy()[known], sample_weight=weight[known])))
    return float(np.mean(areas))


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
