"""Which posts train, select, fuse, calibrate and test.

Three time windows: development, calibration, test, the latest last. Within the development window a keyed hash spreads the groups over
train, val and fusion, in exact proportions of each language × label. A group is never in two splits, and no post that the champion or an
ancestor of it has learned from, nor a copy of such a post, is in the calibration or the test window.
"""

from collections.abc import Mapping
from itertools import accumulate

import numpy as np
import pandas as pd

from upheld.common.params.data import Splits
from upheld.feature_store.contracts.hashing import uniform

LEARNED = ("train", "val", "fusion")  # the splits of the development window: a model has seen what is in them
WINDOWS = ("development", "calib", "test")


def boundaries(created_at: "pd.Series[pd.Timestamp]", params: Splits) -> tuple[pd.Timestamp, pd.Timestamp]:
    """First moments of the calibration and the test window.

    Args:
        created_at: times of the posts whose label is known, N ≥ 1, any order.
        params: section `splits`; `test_share` of these posts, the latest, are in the test window, `calib_share` just before.

    Returns:
        start of the calibration window, start of the test window. Posts of exactly that moment belong to the later window.
    """
    times = created_at.sort_values(ignore_index=True)
    last = len(times) - 1
    calib, test = ((1 - params.calib_share - params.test_share) * len(times), (1 - params.test_share) * len(times))
    return times[min(last, round(calib))], times[min(last, round(test))]


def windows(created_at: "pd.Series[pd.Timestamp]", starts: tuple[pd.Timestamp, pd.Timestamp]) -> "pd.Series[str]":
    """The window each post is in: development, calib or test."""
    names = np.select([created_at < starts[0], created_at < starts[1]], WINDOWS[:2], WINDOWS[2])
    return pd.Series(names, index=created_at.index, name="window")


def assign(posts: pd.DataFrame, params: Splits, key: str) -> pd.DataFrame:
    """Give each post its split, or the reason why it has none.

    A group with posts in several windows keeps those of one; each window is as likely as the others, so that all of them keep the same
    share of such posts. Only labelled posts, where a group has any, decide. What is left out and why:
    `seen_by_champion` in calib or test although the model line learned from it; `copy_of_seen` there too, with the text or media of such a
    post; `other_window` its group stays in another window; `other_split` the model line learned from it in another split than its group's.

    Args:
        posts: one row per post, any order: post_id, window, is_labelled (bool), stratum (str, language × label), content_id, group_id,
            learned_as (train, val, fusion: its split in the champion's membership; null = not in it). Posts of the membership that are
            no longer labelled belong in it too, with is_labelled False: they hold their group's place, and are not in the result.
        key: other keys give independent assignments.

    Returns:
        post_id, split (train, val, fusion, calib, test, or null), reason (null where there is a split), by post_id.
    """
    rows = posts.sort_values("post_id", ignore_index=True)
    learned = rows["learned_as"].notna()
    later = rows["window"] != "development"
    copies = rows["content_id"].isin(rows.loc[learned, "content_id"])
    rows["reason"] = copies.map({True: "copy_of_seen"}).mask(learned, "seen_by_champion").where(later)
    kept = _kept_window(rows[rows["reason"].isna()], key)
    rows.loc[rows["reason"].isna() & (rows["window"] != rows["group_id"].map(kept)), "reason"] = "other_window"
    # A group that the model line knows keeps the split that most of its known posts are in, at a tie the earliest of LEARNED.
    counts = pd.crosstab(rows.loc[learned, "group_id"], rows.loc[learned, "learned_as"]).reindex(columns=list(LEARNED), fill_value=0)
    held = counts.idxmax(axis=1).astype(str) if len(counts) else pd.Series(dtype=str)
    # New groups are spread over train, val and fusion; a group belongs to the stratum of one of its posts, drawn by hash.
    new = rows[~later & rows["reason"].isna() & ~rows["group_id"].isin(held.index)]
    new = new.assign(rank=uniform(f"{key}/rank", new["post_id"])).sort_values("rank")
    groups = new.groupby("group_id", sort=False).agg(stratum=("stratum", "first"), rank=("rank", "first"), size=("post_id", "size"))
    group_split = pd.concat([held, spread(groups, {"fusion": params.fusion_share, "val": params.val_share}, key)])
    rows["split"] = rows["window"].where(later, rows["group_id"].map(group_split))
    rows.loc[rows["reason"].isna() & learned & (rows["learned_as"] != rows["split"]), "reason"] = "other_split"
    rows["split"] = rows["split"].mask(rows["reason"].notna())
    return rows.loc[rows["is_labelled"] | ~learned, ["post_id", "split", "reason"]].reset_index(drop=True)


def _kept_window(rows: pd.DataFrame, key: str) -> "pd.Series[str]":
    """Window that each group keeps, by group_id.

    With k windows development is kept where the group's number is below 1 / k. So a group that is on the later side stays there while its
    posts move through the weeks, and the two later windows part what is theirs by a second number.
    """
    decisive = rows[rows["is_labelled"] | ~rows["group_id"].isin(rows.loc[rows["is_labelled"], "group_id"])]
    present = pd.crosstab(decisive["group_id"], decisive["window"]).reindex(columns=list(WINDOWS), fill_value=0) > 0
    names = present.index.astype(str)
    early = present["development"] & (uniform(f"{key}/development", names) < 1 / present.sum(axis=1))
    calib = present["calib"] & (~present["test"] | (uniform(f"{key}/calib", names) < 0.5))
    kept = np.select([early | ~(present["calib"] | present["test"]), calib], ["development", "calib"], "test")
    return pd.Series(kept, index=present.index)


def spread(groups: pd.DataFrame, shares: Mapping[str, float], key: str) -> "pd.Series[str]":
    """Spread groups over splits; of each stratum every split gets its share, as nearly as whole groups allow.

    Within a stratum the groups are laid on a circle in order of rank, each as long as its size; arcs of the shares' lengths, turned by a
    hash of the stratum, are the splits. The turn gives a stratum with fewer groups than splits its fair chance of each.

    Args:
        groups: stratum, rank, size, one row a group.
        shares: of the splits but `train`, together below 1; train gets the rest.
        key: other keys give independent splits.

    Returns:
        split by the index of `groups`, in order of stratum and rank.
    """
    groups = groups.sort_values(["stratum", "rank"])
    size = groups.groupby("stratum")["size"]
    strata = groups["stratum"].unique().tolist()
    turn = groups["stratum"].map(dict(zip(strata, uniform(f"{key}/turn", strata), strict=True))).astype(float)
    place = ((size.cumsum() - groups["size"] / 2) / size.transform("sum") + turn) % 1
    return pd.Series(np.select([place < end for end in accumulate(shares.values())], list(shares), "train"), index=groups.index)
