"""Reviewed labels that the models contradict with confidence: whom to ask again.

Only split train is looked at: its labels teach, and nothing else is done with them. Labels of val and fusion choose between models, those
of calib and test measure them. Mended where a model disagrees, and only there, they would agree with it more than the truth does.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from scipy.special import expit, logit
from sklearn.model_selection import GroupKFold

from upheld.common.arrays import Floats
from upheld.common.errors import FailedWork
from upheld.common.params.params import Params
from upheld.common.progress import track
from upheld.feature_store.contracts.snapshot import Snapshot
from upheld.feature_store.contracts.tables import LOGIT_LIMIT
from upheld.training.loop import teacher
from upheld.training.loop.examples import labelled_posts, targets_of
from upheld.training.loop.losses import MIN_LABELS
from upheld.training.ngrams.model import probabilities, vectoriser_of
from upheld.training.ngrams.stage import fit, with_text

NUM_FOLDS = 5
ITEM = ["post_id", "category"]


def find(data: Snapshot, params: Params, teacher_weight: float, settled: pd.DataFrame) -> pd.DataFrame:
    """List the labels of split train that are probably wrong.

    Args:
        data: the snapshot; posts of split train with a text and a label of 0 or 1 are judged.
        params: `policies`, `ngrams` and `suspects` are read.
        teacher_weight: of a soft label, as the stage ngrams chose it.
        settled: post_id, category of what is not to be listed; it is judged beside the others all the same.

    Returns:
        post_id, category, language, label (0 or 1), prob (of a violation, by models that did not learn from this post's labels), quality
        (the probability that the models give to the label), usual (mean prob of the posts with the other label); by category, the least
        quality first, at most `max_per_category` each. How many are suspect is the number of errors that confident learning estimates,
        and those of the least quality are. A category with fewer than MIN_LABELS labels of a class has none.

    Raises:
        FailedWork: the texts fall into fewer groups than cross-fitting has folds.

    Source: Northcutt, Jiang & Chuang (2021), Confident Learning, JAIR 70, 1373-1411; by cleanlab. docs/statistics.md, Suspect labels.
    """
    posts = with_text(labelled_posts(data, "train", params.policies))
    probs = cross_fitted(data, posts, params, teacher_weight)
    known = data.examples.loc[data.examples["hard_label"].notna(), [*ITEM, "hard_label"]]
    judged = known.merge(posts[["post_id", "language"]], on="post_id", validate="m:1").merge(probs, on=ITEM, validate="1:1")
    judged = judged.dropna(subset="prob").assign(label=judged["hard_label"].astype(int)).sort_values(ITEM, ignore_index=True)
    listed = [pd.DataFrame(columns=["usual", "quality"])]
    for _, own in judged.groupby("category"):
        label, prob = own["label"].to_numpy(), own["prob"].to_numpy()
        if min(label.sum(), (1 - label).sum()) < MIN_LABELS:
            continue
        both = np.stack([1 - prob, prob], axis=1)
        # `filter_by` chooses as many as the confident joint counts; n_jobs keeps cleanlab from starting processes.
        suspect = find_label_issues(label, both, filter_by="low_self_confidence", n_jobs=1)
        usual = {of: prob[label != of].mean() for of in (0, 1)}
        rows = own.assign(quality=get_label_quality_scores(label, both), usual=own["label"].map(usual))[suspect]
        rows = rows[~pd.MultiIndex.from_frame(rows[ITEM]).isin(pd.MultiIndex.from_frame(settled[ITEM]))]
        listed.append(rows.sort_values("quality", kind="stable").head(params.suspects.max_per_category))
    return pd.concat(listed, ignore_index=True).reindex(columns=[*ITEM, "language", "label", "prob", "quality", "usual"])


def cross_fitted(data: Snapshot, posts: pd.DataFrame, params: Params, teacher_weight: float) -> pd.DataFrame:
    """What models say of posts from whose labels, and whose near-duplicates' labels, they did not learn.

    The models are the n-gram classifier and, where the model in production teaches, its corrected score; their logits are averaged.

    Args:
        data: the snapshot.
        posts: rows of its posts with a text, in order of post_id.
        params: `policies` and `ngrams` are read.
        teacher_weight: of a soft label.

    Returns:
        post_id, category, prob (NaN where the others' labels do not tell), one row a post and policy.

    Raises:
        FailedWork: there are fewer groups than folds.
    """
    if (num_groups := posts["group_id"].nunique()) < NUM_FOLDS:
        raise FailedWork(f"{num_groups} groups of reviewed texts in split train, cross-fitting takes {NUM_FOLDS}; retrain on more reviews")
    pupils = with_text(data.unreviewed) if teacher_weight > 0 else data.unreviewed.head(0)
    everything = pd.concat([posts, pupils[posts.columns]], ignore_index=True)
    vectoriser = vectoriser_of(params.ngrams.ngram_range, params.ngrams.max_features)
    features = vectoriser.fit_transform(everything["text"])
    parts = []
    folds = list(GroupKFold(NUM_FOLDS).split(posts, groups=posts["group_id"]))
    for _, held_out in track(folds, "folds"):
        names = posts["post_id"].iloc[held_out]
        others = data.examples[~data.examples["post_id"].isin(names)]
        soft, _ = teacher.soft_labels(replace(data, examples=others), params.policies)
        learned = np.setdiff1d(np.arange(len(everything)), held_out)
        targets = targets_of(teacher.taught(others, soft, teacher_weight), everything["post_id"].iloc[learned].tolist(), params.policies)
        model = fit(params, vectoriser, features[learned], *targets)
        of_model = pd.DataFrame(probabilities(model, features[held_out]), columns=list(model.setup.policies), index=names)
        said = of_model.reset_index().melt("post_id", var_name="category", value_name="prob")
        if teacher_weight > 0:
            said = said.merge(soft, on=ITEM, how="left", validate="1:1")
            said["prob"] = expit((_logit(said["prob"]) + _logit(said["label"].fillna(said["prob"]))) / 2)
        parts.append(said[[*ITEM, "prob"]])
    together: pd.DataFrame = pd.concat(parts, ignore_index=True).astype({"prob": "float64"})
    return together


def _logit(prob: "pd.Series[float]") -> Floats:
    limited: Floats = np.clip(logit(prob.to_numpy(np.float64)), -LOGIT_LIMIT, LOGIT_LIMIT)
    return limited
