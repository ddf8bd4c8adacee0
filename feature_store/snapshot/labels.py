"""Review outcomes → one label per post and category, as it was known at a given time."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from upheld.common.params.data import Labels
from upheld.feature_store.ledger.verdicts import ITEM, counting_votes, evidence_of, standing
from upheld.feature_store.snapshot import dawid_skene


class Labelled(NamedTuple):
    """What the outcomes say: a label per item, and the votes it rests on."""

    items: pd.DataFrame
    votes: pd.DataFrame


def label(outcomes: pd.DataFrame, languages: "pd.Series[str]", as_of: pd.Timestamp, params: Labels) -> Labelled:
    """Turn outcomes into labels.

    A verdict counts unless the item was escalated after it; an item whose escalation nobody has resolved is unknown. Of one reviewer the
    latest verdict counts. Where several reviewers' verdicts count, the label is the Dawid-Skene probability, else the one verdict.

    Args:
        outcomes: the review_outcomes table, all revisions, any order; recorded_at may be among its columns.
        languages: language of each post, indexed by post_id; every outcome's post must be in it.
        as_of: rows recorded or reviewed later are unknown.
        params: section `labels`.

    Returns:
        items: one row per post × category with an outcome, by post_id and category: label (float32 in [0, 1], null = unknown), hard_label
            (Int8 0/1, null where the label is unknown or exactly one half), num_reviewers (int32, those whose verdict counts),
            inclusion_prob, zone, evidence and labelled_at (of `evidence_of`).
        votes: the verdicts that count: post_id, category, reviewer_id, vote (0/1).
    """
    known = standing(outcomes, as_of)
    votes = counting_votes(known)
    items = evidence_of(known).merge(_labels_of(votes, languages, params), on=ITEM, how="left", validate="1:1")
    items["num_reviewers"] = items["num_reviewers"].fillna(0).astype("int32")
    items["hard_label"] = (items["label"] > 0.5).astype("Int8").mask(items["label"].isna() | (items["label"] == 0.5))
    return Labelled(items.sort_values(ITEM, ignore_index=True), votes)


def _labels_of(votes: pd.DataFrame, languages: "pd.Series[str]", params: Labels) -> pd.DataFrame:
    """post_id, category, label (float32) and num_reviewers of every item with a vote."""
    labels = votes.groupby(ITEM)["vote"].agg(label="mean", num_reviewers="size").reset_index()
    shared = votes.merge(labels.loc[labels["num_reviewers"] >= 2, ITEM], on=ITEM)
    for category, rows in shared.groupby("category"):
        for part in _by_language(rows.assign(language=rows["post_id"].map(languages)), params.min_shared_items):
            probs = dawid_skene.soft_labels(part)
            here = (labels["category"] == category) & labels["post_id"].isin(probs.index)
            labels.loc[here, "label"] = labels.loc[here, "post_id"].map(probs)
    return labels.assign(label=labels["label"].astype("float32"))


def _by_language(votes: pd.DataFrame, min_items: int) -> list[pd.DataFrame]:
    """Votes of each language that has at least `min_items` items, and of all other languages together."""
    num_items = votes.groupby("language")["post_id"].nunique()
    own = votes["language"].map(num_items >= min_items).fillna(False).astype(bool)
    groups = np.where(own, votes["language"], "")
    return [part for _, part in votes.groupby(groups)]
