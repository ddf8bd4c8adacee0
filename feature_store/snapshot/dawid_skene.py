"""Soft labels for items that several reviewers judged, by how often each reviewer errs."""

import warnings

import numpy as np
import pandas as pd
from crowdkit.aggregation import DawidSkene

# Every reviewer is taken to have judged, besides the real items, this many imagined ones of each class whose truth is known, and to
# have got all but one right: a Beta(4, 1) prior on sensitivity and specificity. Without it a reviewer of few items is believed
# always or never. Over simulated worlds with 100 items and 2 to 3 votes each it took the Brier score from .183 to .141 and from
# .131 to .075; with 1000 items and more it made no difference (tests/feature_store/snapshot/test_dawid_skene.py repeats one).
NUM_IMAGINED = 5


def soft_labels(votes: pd.DataFrame) -> "pd.Series[float]":
    """Probability of a violation for each item, with one error matrix per reviewer.

    Args:
        votes: one row per item and reviewer: post_id (str), reviewer_id (str), vote (0 restore, 1 violation). Any order.

    Returns:
        float64 in [0, 1], indexed by post_id in ascending order.

    Source: Dawid & Skene (1979), JRSS C 28(1), 20-28, by crowd-kit's EM; imagined items as above.
    """
    data = votes[["post_id", "reviewer_id", "vote"]].set_axis(["task", "worker", "label"], axis=1)
    data = data.astype({"task": object, "worker": object, "label": int}).sort_values(["task", "worker"])
    imagined, truth = _imagined(sorted(data["worker"].unique()))
    with warnings.catch_warnings():
        # crowd-kit 1.4.2 uses pandas arguments that pandas 3.1 announces the end of; the results are right (checked by simulation).
        warnings.simplefilter("ignore", DeprecationWarning)
        fitted = DawidSkene().fit_predict_proba(pd.concat([data, imagined], ignore_index=True), true_labels=truth)
    probs = fitted.drop(index=truth.index)[1].sort_index()
    return pd.Series(np.clip(probs.to_numpy(float), 0, 1), index=pd.Index(probs.index, name="post_id"), name="label")


def _imagined(reviewers: list[str]) -> tuple[pd.DataFrame, "pd.Series[int]"]:
    """Votes of every reviewer on the imagined items (all right but the last of each class), and the items' truth."""
    items = [(f"\0{truth}/{number}", truth, number) for truth in (0, 1) for number in range(NUM_IMAGINED)]
    rows = [(item, name, truth if number + 1 < NUM_IMAGINED else 1 - truth) for name in reviewers for item, truth, number in items]
    return pd.DataFrame(rows, columns=["task", "worker", "label"]), pd.Series({item: truth for item, truth, _ in items})
