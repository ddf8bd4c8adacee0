"""What reviews had said of a post's author, and of the board or thread it stands in, before it was made; and what they say now."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pandas as pd
from scipy.special import logit

from upheld.common.arrays import Floats
from upheld.feature_store.ledger.verdicts import ZONES, for_estimates

_ITEM = ["post_id", "category"]
_ORDER = ["reviewed_at", "outcome_id", "revision"]
# Reviewed posts of the category's own rate that stand beside those of a context: with fewer of its own it hardly differs.
CONTEXT_STRENGTH: Final = 10.0
_MASSES = ["mass", "violating", "squared"]  # sums over decided items: of 1/inclusion_prob, of that of violations, and of its square


@dataclass(frozen=True)
class History:
    """What the ledger says now: author_id -> confirmed removals, and context_id -> category -> its excess as `context_excess` gives it.

    Authors and contexts of whom nothing was reviewed are absent.
    """

    removals: Mapping[str, int] = field(default_factory=dict)
    contexts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def prior_removals(posts: pd.DataFrame, outcomes: pd.DataFrame, authors: "pd.Series[str]") -> "pd.Series[int]":
    """Count the author's posts × categories that stood as confirmed removals when each post was made.

    A pair stands as removed while more of its outcomes say confirm_removal than restore. Only reviews made before the post count, each
    in the revision of that time: a verdict that came or was corrected later is not known yet.

    Args:
        posts: post_id, created_at, author_id (str or null); unique post_id.
        outcomes: outcome_id, revision, post_id, category, verdict, reviewed_at; every revision that is known.
        authors: author_id of the outcomes' posts, indexed by post_id; null where there is none.

    Returns:
        int32, indexed by post_id in the order of `posts`; 0 where the author is unknown.
    """
    history = _removals_over_time(outcomes, authors)
    mine = posts.loc[posts["author_id"].notna(), ["post_id", "created_at", "author_id"]].sort_values("created_at")
    found = pd.merge_asof(
        mine, history, left_on="created_at", right_on="reviewed_at", by="author_id", allow_exact_matches=False, direction="backward"
    )
    return posts["post_id"].map(found.set_index("post_id")["num_removals"]).fillna(0).astype("int32").set_axis(posts["post_id"])


def context_excess(posts: pd.DataFrame, outcomes: pd.DataFrame, contexts: "pd.Series[str]") -> list[dict[str, float]]:
    """Say by how much each post's context violated more than the rest, as it was known when the post was made.

    The rate of a context is that of its posts reviewed by then, weighted by 1/inclusion_prob as if all had been reviewed, with
    CONTEXT_STRENGTH posts of the category's own rate beside them (a Beta prior, counted in effective posts: Kish 1965, section 11.7).
    Only draws count: what was reviewed because somebody complained says nothing of a rate.

    Args:
        posts: post_id, created_at, context_id (str or null); unique post_id.
        outcomes: outcome_id, revision, post_id, category, verdict, reviewed_at, source, inclusion_prob; every revision that is known.
        contexts: context_id of the outcomes' posts, indexed by post_id; null where there is none.

    Returns:
        category -> logit of the context's rate less that of the category's, a dict for each post in the order of `posts`; a category
        of which the context had no reviewed post is absent.
    """
    placed = posts[["post_id", "created_at", "context_id"]].reset_index(drop=True)
    placed["row"] = placed.index
    found: list[dict[str, float]] = [{} for _ in range(len(placed))]
    asked = placed[placed["context_id"].notna()].sort_values("created_at")
    for category, steps in _verdicts_over_time(outcomes, contexts).groupby("category"):
        overall = steps.drop_duplicates("reviewed_at", keep="last")[["reviewed_at", *(f"all_{name}" for name in _MASSES)]]
        own = steps[steps["context_id"].notna()].drop_duplicates(["context_id", "reviewed_at"], keep="last")
        rows = pd.merge_asof(asked, overall, left_on="created_at", right_on="reviewed_at", allow_exact_matches=False)
        rows = pd.merge_asof(
            rows.drop(columns="reviewed_at"),
            own[["reviewed_at", "context_id", *_MASSES]],
            left_on="created_at",
            right_on="reviewed_at",
            by="context_id",
            allow_exact_matches=False,
        )
        known = rows[rows["mass"] > 0]
        for row, excess in zip(known["row"], _excess(known), strict=True):
            found[row][str(category)] = float(excess)
    return found


def current(outcomes: pd.DataFrame, authors: "pd.Series[str]", contexts: "pd.Series[str]") -> History:
    """As `prior_removals` and `context_excess` say it, but of posts made now.

    Args:
        outcomes, authors, contexts: as there.
    """
    latest = _removals_over_time(outcomes, authors).sort_values("reviewed_at").drop_duplicates("author_id", keep="last")
    removals = dict(zip(latest["author_id"], latest["num_removals"], strict=True))
    of_contexts: dict[str, dict[str, float]] = {}
    for category, steps in _verdicts_over_time(outcomes, contexts).groupby("category"):
        overall = steps.iloc[-1]
        own = steps[steps["context_id"].notna()].drop_duplicates("context_id", keep="last")
        own = own[own["mass"] > 0].assign(**{f"all_{name}": overall[f"all_{name}"] for name in _MASSES})
        for context_id, excess in zip(own["context_id"], _excess(own), strict=True):
            of_contexts.setdefault(context_id, {})[str(category)] = float(excess)
    return History(removals, of_contexts)


def _removals_over_time(outcomes: pd.DataFrame, authors: "pd.Series[str]") -> pd.DataFrame:
    """author_id, reviewed_at, num_removals: the count after each review, in order of time."""
    rows = _standing_over_time(outcomes.assign(author_id=outcomes["post_id"].map(authors)).dropna(subset="author_id"))
    removed = rows["balance"] > 0
    rows["step"] = removed.astype(int) - removed.groupby([rows[name] for name in _ITEM]).shift(fill_value=False).astype(int)
    rows["num_removals"] = rows.groupby("author_id")["step"].cumsum()
    return rows.drop_duplicates(["author_id", "reviewed_at"], keep="last")[["author_id", "reviewed_at", "num_removals"]]


def _verdicts_over_time(outcomes: pd.DataFrame, contexts: "pd.Series[str]") -> pd.DataFrame:
    """category, reviewed_at, context_id, and _MASSES of the context and, with `all_` before their names, of the category after each review
    of a drawn post, in order of time. A post is decided while its confirmations and restorations do not balance."""
    drawn = for_estimates(outcomes)
    drawn = drawn[drawn["source"].isin(list(ZONES)) & drawn["inclusion_prob"].notna()]
    rows = _standing_over_time(drawn.assign(context_id=drawn["post_id"].map(contexts)))
    weight = 1 / rows["inclusion_prob"].astype("float64")
    states = {"mass": weight * (rows["balance"] != 0), "violating": weight * (rows["balance"] > 0)}
    states["squared"] = weight * states["mass"]
    item = [rows[name] for name in _ITEM]
    for name, state in states.items():
        step = state - state.groupby(item).shift(fill_value=0.0)
        rows[name] = step.groupby([rows["category"], rows["context_id"]]).cumsum()
        rows[f"all_{name}"] = step.groupby(rows["category"]).cumsum()
    return rows[["category", "reviewed_at", "context_id", *_MASSES, *(f"all_{name}" for name in _MASSES)]]


def _standing_over_time(outcomes: pd.DataFrame) -> pd.DataFrame:
    """The outcomes in order of time, with balance: confirmations less restorations of the item once each is known."""
    rows = outcomes.sort_values(["outcome_id", "revision"])
    says = rows["verdict"].map({"confirm_removal": 1, "restore": -1}).fillna(0).astype(int)
    rows = rows.assign(change=says - says.groupby(rows["outcome_id"]).shift(fill_value=0))  # a revision takes back the one before
    rows = rows.sort_values(_ORDER)
    return rows.assign(balance=rows.groupby(_ITEM)["change"].cumsum())


def _excess(rows: pd.DataFrame) -> Floats:
    """Logit of the context's smoothed rate less that of the category's, of columns _MASSES with and without `all_`.

    The category's rate has one post of each kind added (Laplace), so that it is never 0 or 1.
    """
    num_all = rows["all_mass"] ** 2 / rows["all_squared"]
    rate = (num_all * rows["all_violating"] / rows["all_mass"] + 1) / (num_all + 2)
    num = rows["mass"] ** 2 / rows["squared"]
    own = (num * rows["violating"] / rows["mass"] + CONTEXT_STRENGTH * rate) / (num + CONTEXT_STRENGTH)
    excess: Floats = (logit(own) - logit(rate)).to_numpy(np.float64)
    return excess
