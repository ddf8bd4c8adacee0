"""Training weights under which no single reviewer decides a category."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

CELL = ["split", "category"]


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
