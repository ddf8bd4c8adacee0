"""The model in production as a teacher: its scores are soft labels of reviewed and unreviewed posts, under the reviewers' own.

Where reviewers contradict it they overrule it twice: its scores are first corrected, per category and language, by the reviewed posts
(`correction`); and a post's own label weighs more than its score.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from upheld.common.errors import FailedWork
from upheld.common.files import write_json
from upheld.common.params.params import Params
from upheld.feature_store.contracts.hashing import uniform
from upheld.feature_store.contracts.snapshot import Snapshot
from upheld.training.loop.correction import corrected

FILE = "teacher.json"  # beside the model that chose the weight
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
        post_id, category, label (float in [0, 1], the score as `corrected` by the labels of split train); and per model version and
        category how it was corrected.
    """
    about = pd.concat([data.posts.loc[data.posts["split"] == "train", ["post_id", "language"]], data.unreviewed[["post_id", "language"]]])
    served = data.served[data.served["category"].isin(policies)].merge(about, on="post_id", validate="m:1")
    served = served.merge(data.examples[[*ITEM, "label", "inclusion_prob"]], on=ITEM, how="left", validate="1:1")
    account: dict[str, Any] = {}
    for version, rows in served.groupby("model_version"):
        served.loc[rows.index, "score"], account[str(version)] = corrected(rows)
    return served[[*ITEM, "score"]].rename(columns={"score": "label"}), account


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
