"""Review outcomes → one label per post and category, as it was known at a given time."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from feature_store import dawid_skene
from feature_store.params import Labels

ITEM = ["post_id", "category"]
# Which part of the traffic a draw looked at. An appeal answers no draw.
ZONES = {"queue": "review", "audit_removed": "auto_remove", "audit_passed": "none"}
VOTES = {"restore": 0, "confirm_removal": 1}


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


def standing(outcomes: pd.DataFrame, as_of: pd.Timestamp) -> pd.DataFrame:
    """The highest revision of each outcome among the rows known at `as_of`, in order of outcome_id."""
    known = outcomes["reviewed_at"] <= as_of
    if "recorded_at" in outcomes:
        known &= outcomes["recorded_at"] <= as_of
    return outcomes[known].sort_values(["outcome_id", "revision"]).drop_duplicates("outcome_id", keep="last")


def counting_votes(known: pd.DataFrame) -> pd.DataFrame:
    """The verdicts that count: none that an escalation followed, and the latest of each reviewer.

    Args:
        known: standing outcomes, one row per outcome_id.

    Returns:
        post_id, category, reviewer_id, vote (int8; 1 = violation), in that order.
    """
    escalated = known[known["verdict"] == "escalate"].groupby(ITEM)["reviewed_at"].max().rename("escalated_at")
    rows = known[known["verdict"] != "escalate"].join(escalated, on=ITEM)
    rows = rows[rows["escalated_at"].isna() | (rows["reviewed_at"] > rows["escalated_at"])]
    rows = rows.sort_values([*ITEM, "reviewer_id", "reviewed_at", "outcome_id"])
    rows = rows.drop_duplicates([*ITEM, "reviewer_id"], keep="last").assign(vote=lambda votes: votes["verdict"].map(VOTES).astype("int8"))
    return rows[[*ITEM, "reviewer_id", "vote"]].reset_index(drop=True)


def evidence_of(known: pd.DataFrame) -> pd.DataFrame:
    """How each item came to be reviewed.

    An appeal is no probability sample: an item with appeals alone has neither inclusion_prob nor zone. An item with several sampled
    outcomes takes both from the earliest, for later reviews of a drawn item do not change how it was drawn.

    Args:
        known: standing outcomes, one row per outcome_id.

    Returns:
        post_id, category, evidence ("sample" or "appeal"), inclusion_prob (float64 or null), zone (auto_remove, review, none, or null),
        labelled_at (time of the last review).
    """
    ordered = known.sort_values([*ITEM, "reviewed_at", "outcome_id"])
    drawn = ordered[ordered["source"].isin(list(ZONES))].drop_duplicates(ITEM)
    drawn = drawn.assign(zone=drawn["source"].map(ZONES), evidence="sample")[[*ITEM, "evidence", "inclusion_prob", "zone"]]
    items = ordered.groupby(ITEM)["reviewed_at"].max().rename("labelled_at").reset_index().merge(drawn, on=ITEM, how="left", validate="1:1")
    return items.assign(evidence=items["evidence"].fillna("appeal"))


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
