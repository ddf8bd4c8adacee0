"""Review outcomes → one label per post and category, as it was known at a given time."""

import warnings
from typing import NamedTuple

import numpy as np
import pandas as pd
from crowdkit.aggregation import DawidSkene
from numpy.typing import NDArray
from scipy.special import expit

from upheld.common.params.data import Labels
from upheld.feature_store.contracts.tables import TARGETED
from upheld.feature_store.ledger.verdicts import ITEM, counting_votes, evidence_of, for_estimates, standing

# Every reviewer is taken to have judged, besides the real items, this many imagined ones of each class whose truth is known, and to
# have got all but one right: a Beta(4, 1) prior on sensitivity and specificity. Without it a reviewer of few items is believed
# always or never. Over simulated worlds with 100 items and 2 to 3 votes each it took the Brier score from .183 to .141 and from
# .131 to .075; with 1000 items and more it made no difference (tests/feature_store/snapshot/test_dawid_skene.py repeats one).
NUM_IMAGINED = 5
CELL = ["split", "category"]


def soft_labels(votes: pd.DataFrame, doubted: pd.DataFrame | None = None) -> "pd.Series[float]":
    """Probability of a violation for each item, with one error matrix per reviewer.

    Args:
        votes: one row per item and reviewer: post_id (str), reviewer_id (str), vote (0 restore, 1 violation). Any order.
        doubted: the same, of items that were judged again because a model doubted their label: all votes on them. They tell the items'
            truth and nothing of the reviewers, for whoever looks at likely errors disagrees more often than errors are made.

    Returns:
        float64 in [0, 1], indexed by post_id in ascending order: of the items of both.

    Source: Dawid & Skene (1979), JRSS C 28(1), 20-28, by crowd-kit's EM; imagined items as above.
    """
    data = votes[["post_id", "reviewer_id", "vote"]].set_axis(["task", "worker", "label"], axis=1)
    data = data.astype({"task": object, "worker": object, "label": int}).sort_values(["task", "worker"])
    # Every reviewer's votes on the imagined items, all right but the last of each class, and the items' truth.
    names = sorted(data["worker"].unique()) or ["\0"]  # where nobody shared an item, somebody of whom nothing is known
    items = [(f"\0{violates}/{number}", violates, number) for violates in (0, 1) for number in range(NUM_IMAGINED)]
    rows = [(item, name, violates if number + 1 < NUM_IMAGINED else 1 - violates) for name in names for item, violates, number in items]
    imagined, truth = pd.DataFrame(rows, columns=["task", "worker", "label"]), pd.Series({item: violates for item, violates, _ in items})
    with warnings.catch_warnings():
        # crowd-kit 1.4.2 uses pandas arguments that pandas 3.1 announces the end of; the results are right (checked by simulation).
        warnings.simplefilter("ignore", DeprecationWarning)
        fitted = DawidSkene().fit(pd.concat([data, imagined], ignore_index=True), true_labels=truth)
    probs = fitted.probas_.drop(index=truth.index)[1]
    if doubted is not None and len(doubted):
        log_odds = np.log(fitted.errors_[1] / fitted.errors_[0]).reindex(pd.MultiIndex.from_frame(doubted[["reviewer_id", "vote"]]))
        unknown = np.where(doubted["vote"] == 1, 1, -1) * np.log(NUM_IMAGINED - 1)  # what the imagined items alone say of a reviewer
        told = pd.Series(np.where(log_odds.isna(), unknown, log_odds), index=doubted["post_id"].astype(object)).groupby(level=0).sum()
        again = expit(told + np.log(fitted.priors_[1] / fitted.priors_[0]))
        probs = pd.concat([probs.drop(index=again.index, errors="ignore"), again])
    probs = probs.sort_index()
    return pd.Series(np.clip(probs.to_numpy(float), 0, 1), index=pd.Index(probs.index, name="post_id"), name="label")


def capped_factors(masses: NDArray[np.float64], max_share: float) -> NDArray[np.float64] | None:
    """Factors that bring the largest masses down to `max_share` of what remains, and leave the others alone.

    Args:
        masses: float (R,), > 0: weight of each reviewer's verdicts.
        max_share: in (0, 1).

    Returns:
        float64 (R,) in (0, 1], or None where no factors can do it: fewer than 1 / max_share reviewers.

    Source: with the j largest cut to a level v, v = max_share · (j · v + rest), so v = max_share · rest / (1 − j · max_share).
    """
    if len(masses) * max_share < 1:
        return None
    descending = np.sort(masses)[::-1]
    rest = descending.sum() - np.concatenate([[0.0], np.cumsum(descending)[:-1]])
    num_cut = np.arange(len(masses))
    room = 1 - num_cut * max_share
    level = np.divide(max_share * rest, room, out=np.full(len(masses), np.inf), where=room > 0)
    # With enough reviewers there is such a level before `room` is spent; with just enough it is met up to rounding.
    v = level[np.argmax(descending <= level * (1 + 1e-12))]
    factors: NDArray[np.float64] = np.minimum(1.0, v / masses)
    return factors


def weights(examples: pd.DataFrame, votes: pd.DataFrame, max_share: float) -> tuple[pd.DataFrame, list[dict[str, object]]]:
    """Weight of every example: within each split and category, no reviewer's verdicts carry more than `max_share`.

    An example's weight is shared equally by the reviewers whose verdicts count for it.

    Args:
        examples: post_id, category, split; one row per post × category.
        votes: post_id, category, reviewer_id; one row per verdict that counts.
        max_share: in (0, 1).

    Returns:
        post_id, category, weight (float32 in (0, 1]; 1 where there are no votes), and the cells in which the cap cannot be met and every
        weight stayed 1: split, category, num_reviewers.
    """
    rows = votes.merge(examples[["post_id", *CELL]], on=["post_id", "category"], validate="m:1")
    rows["mass"] = 1 / rows.groupby(["post_id", "category"])["reviewer_id"].transform("size")
    rows["factor"], unmet = 1.0, []
    for (split, category), cell in rows.groupby(CELL):
        masses = cell.groupby("reviewer_id")["mass"].sum()
        factors = capped_factors(masses.to_numpy(), max_share)
        if factors is None:
            unmet.append({"split": split, "category": category, "num_reviewers": len(masses)})
        else:
            rows.loc[cell.index, "factor"] = cell["reviewer_id"].map(pd.Series(factors, index=masses.index))
    means = rows.groupby(["post_id", "category"])["factor"].mean().rename("weight").reset_index()
    table = examples[["post_id", "category"]].merge(means, on=["post_id", "category"], how="left", validate="1:1")
    return table.assign(weight=table["weight"].fillna(1.0).astype("float32")), unmet


class Labelled(NamedTuple):
    """What the outcomes say: a label per item, and the votes it rests on."""

    items: pd.DataFrame
    votes: pd.DataFrame


def label(outcomes: pd.DataFrame, languages: "pd.Series[str]", as_of: pd.Timestamp, params: Labels) -> Labelled:
    """Turn outcomes into labels.

    A verdict counts unless the item was escalated after it; an item whose escalation nobody has resolved is unknown. Of one reviewer the
    latest verdict counts. Where several reviewers' verdicts count, the label is the Dawid-Skene probability, else the one verdict. What is
    said in second reviews of doubted labels counts for their items alone: no reviewer's error rates are learned from it.

    Args:
        outcomes: the review_outcomes table, all revisions, any order; recorded_at may be among its columns.
        languages: language of each post, indexed by post_id; every outcome's post must be in it.
        as_of: rows recorded or reviewed later are unknown.

    Returns:
        items: one row per post × category with an outcome, by post_id and category: label (float32 in [0, 1], null = unknown), hard_label
            (Int8 0/1, null where the label is unknown or exactly one half), num_reviewers (int32, those whose verdict counts),
            inclusion_prob, zone, evidence and labelled_at (of `evidence_of`).
        votes: the verdicts that count: post_id, category, reviewer_id, vote (0/1).
    """
    known = standing(outcomes, as_of)
    votes, drawn = counting_votes(known), counting_votes(for_estimates(known))
    labels = votes.groupby(ITEM)["vote"].agg(label="mean", num_reviewers="size").reset_index()
    shared, learned = (of[of.groupby(ITEM)["vote"].transform("size") >= 2] for of in (votes, drawn))
    asked = pd.MultiIndex.from_frame(known.loc[known["source"] == TARGETED, ITEM])
    for category, rows in shared.groupby("category"):
        told = learned[learned["category"] == category]
        # Each language that has enough items by itself, all other languages together.
        num_items = told.groupby(told["post_id"].map(languages))["post_id"].nunique()
        own = num_items.index[num_items >= params.min_shared_items]
        cells = [of["post_id"].map(languages).where(lambda names, own=own: names.isin(own), "") for of in (rows, told)]
        for cell, part in rows.groupby(cells[0]):
            doubted = pd.MultiIndex.from_frame(part[ITEM]).isin(asked)
            probs = soft_labels(told[cells[1] == cell], part[doubted])
            here = (labels["category"] == category) & labels["post_id"].isin(part["post_id"])
            labels.loc[here, "label"] = labels.loc[here, "post_id"].map(probs)
    labels["label"] = labels["label"].astype("float32")
    items = evidence_of(known).merge(labels, on=ITEM, how="left", validate="1:1")
    items["num_reviewers"] = items["num_reviewers"].fillna(0).astype("int32")
    items["hard_label"] = (items["label"] > 0.5).astype("Int8").mask(items["label"].isna() | (items["label"] == 0.5))
    return Labelled(items.sort_values(ITEM, ignore_index=True), votes)
