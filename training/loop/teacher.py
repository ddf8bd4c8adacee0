"""The model in production as a teacher: its scores are soft labels of reviewed and unreviewed posts, under the reviewers' own.

Where reviewers contradict it they overrule it twice: its scores are first corrected, per category and language, by the reviewed posts in
their share of the traffic; and a post's own label weighs more than its score.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from upheld.common.errors import FailedWork
from upheld.common.files import write_json
from upheld.common.params.params import Params
from upheld.feature_store.contracts.hashing import uniform
from upheld.feature_store.contracts.snapshot import Snapshot
from upheld.feature_store.contracts.tables import LOGIT_LIMIT
from upheld.training.loop.logistic import fit_logistic

FILE = "teacher.json"  # beside the model that chose the weight
L2 = 10.0  # of the correction, in reviewed posts that count alike; better than 3 in two sample worlds and in week 4 of a real stream
MIN_LABELS = 10  # of each class, below which a category's scores are taken as they are
ITEM = ["post_id", "category"]
_HAS = {
    "text": lambda posts: posts["text"].fillna("").str.strip() != "",
    "image": lambda posts: posts["image_digests"].map(lambda names: names is not None and len(names) > 0).astype(bool),
    "audio": lambda posts: posts["audio_digests"].map(len) > 0,
}


def soft_labels(data: Snapshot, policies: Sequence[str]) -> tuple[pd.DataFrame, dict[str, Any]]:
    """What the teacher says of the posts to train on.

    Args:
        data: the snapshot; of its posts those of split train are taken, and all that nobody reviewed.
        policies: categories wanted.

    Returns:
        post_id, category, label (float in [0, 1], the corrected score); and per category and model version how the scores were corrected:
        intercept and slope of the logit, an offset for each language, and the labels that this rests on.

    The correction is a logistic regression of the train split's labels on the score's logit and the language, weighted by
    1/inclusion_prob, with a Gaussian prior around no correction (`fit_logistic`). The weights add up to the effective number of labels,
    (sum w)^2 / sum w^2 (Kish 1965, Survey Sampling, section 11.7), so that a few posts that stand for many do not overrule the prior.
    Labels of appeals have no inclusion_prob and do not count.
    """
    about = pd.concat([data.posts.loc[data.posts["split"] == "train", ["post_id", "language"]], data.unreviewed[["post_id", "language"]]])
    served = data.served[data.served["category"].isin(policies)].merge(about, on="post_id", validate="m:1")
    served = served.merge(data.examples[[*ITEM, "label", "inclusion_prob"]], on=ITEM, how="left", validate="1:1")
    served["z"] = np.clip(logit(served["score"]), -LOGIT_LIMIT, LOGIT_LIMIT)
    served["corrected"] = served["score"]
    account: dict[str, Any] = {}
    for (category, version), rows in served.groupby(["category", "model_version"]):
        known = rows[rows["label"].notna() & rows["inclusion_prob"].notna()]
        counts = {"num_positive": int((known["label"] > 0.5).sum()), "num_negative": int((known["label"] <= 0.5).sum())}
        entry: dict[str, Any] = {**counts, "num_posts": len(rows), "intercept": 0.0, "slope": 1.0, "languages": {}}
        if min(counts.values()) >= MIN_LABELS:
            languages = sorted(known["language"].unique())
            weight = 1 / known["inclusion_prob"].to_numpy(float)
            prior, penalty = np.zeros(2 + len(languages)), np.full(2 + len(languages), L2)
            prior[1], penalty[0] = 1.0, 0.0
            label = known["label"].to_numpy(float)
            intercept, slope, *offsets = fit_logistic(
                _design(known, languages), label, weight * (weight.sum() / (weight @ weight)), prior, penalty
            )
            offset_of = dict(zip(languages, map(float, offsets), strict=True))
            entry |= {"intercept": float(intercept), "slope": float(slope), "languages": offset_of}
            moved = intercept + slope * rows["z"] + rows["language"].map(offset_of).fillna(0.0)
            served.loc[rows.index, "corrected"] = expit(moved)
        account.setdefault(str(category), {})[str(version)] = entry
    return served[[*ITEM, "corrected"]].rename(columns={"corrected": "label"}), account


def taught(examples: pd.DataFrame, teacher: pd.DataFrame, weight: float) -> pd.DataFrame:
    """Add the teacher's soft labels to the reviewers' labels.

    Args:
        examples: post_id, category, label (null for unknown), weight; one row a post and category.
        teacher: post_id, category, label.
        weight: of a soft label, where a reviewer's has about 1; 0 leaves the reviewers alone.

    Returns:
        post_id, category, label, weight. Where both speak of a post the label is their weighted mean, and the weights add up.
    """
    own = examples.loc[examples["label"].notna(), [*ITEM, "label", "weight"]]
    if weight == 0:
        return own
    both = pd.concat([own, teacher.assign(weight=weight)], ignore_index=True)
    both["mass"] = both["label"] * both["weight"]
    summed = both.groupby(ITEM, sort=True)[["mass", "weight"]].sum().reset_index()
    return summed.assign(label=summed["mass"] / summed["weight"])[[*ITEM, "label", "weight"]]


@dataclass(frozen=True)
class Lesson:
    """What a network learns from besides the posts of split train: `examples`, as `taught` gives them, and `pupils`, unreviewed posts."""

    examples: pd.DataFrame
    pupils: pd.DataFrame
    weight: float


def lesson(data: Snapshot, params: Params, kind: Literal["text", "image", "audio"], chosen: Path) -> Lesson:
    """What the model in production teaches a network.

    Args:
        data: the snapshot.
        params: `teacher`, `policies` and `seed` are read.
        kind: of the network; says how many unreviewed posts it learns from, a hash sample, in order of post_id.
        chosen: folder of the stage ngrams, which says how much a soft label weighs.

    Raises:
        FailedWork: the stage ngrams left no weight.
    """
    weight = chosen_weight(chosen)
    soft, _ = soft_labels(data, params.policies)
    of_kind = data.unreviewed[data.unreviewed["post_id"].isin(soft["post_id"]) & _HAS[kind](data.unreviewed)]
    order = np.argsort(uniform(f"pupils/{params.seed}", of_kind["post_id"]), kind="stable")
    num = params.teacher.posts[kind] if weight > 0 else 0
    pupils = of_kind.iloc[order[:num]].sort_values("post_id", ignore_index=True)
    return Lesson(taught(data.examples, soft, weight), pupils, weight)


def save_weight(folder: Path, weight: float, tried: dict[str, float | None], account: dict[str, Any]) -> None:
    """Write which weight the teacher got and why: the scores of all that were tried, and how its scores were corrected."""
    write_json(folder / FILE, {"weight": weight, "tried": tried, "correction": account})


def chosen_weight(folder: Path) -> float:
    """The weight that the stage `ngrams` chose on validation.

    Raises:
        FailedWork: it left none in `folder`.
    """
    try:
        return float(json.loads((folder / FILE).read_text(encoding="utf-8"))["weight"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FailedWork(f"{folder / FILE}: not readable ({error}); run the stage ngrams again") from error


def _design(rows: pd.DataFrame, languages: Sequence[str]) -> Any:
    ones = [np.ones(len(rows)), rows["z"].to_numpy(float)]
    return np.stack([*ones, *((rows["language"] == language).to_numpy(float) for language in languages)], axis=1)
