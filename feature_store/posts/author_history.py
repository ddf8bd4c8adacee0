"""What was known of a post's author when the post was made."""

import pandas as pd

PAIR = ["author_id", "post_id", "category"]


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
    history = _removals_over_time(outcomes.assign(author_id=outcomes["post_id"].map(authors)).dropna(subset="author_id"))
    mine = posts.loc[posts["author_id"].notna(), ["post_id", "created_at", "author_id"]].sort_values("created_at")
    found = pd.merge_asof(
        mine, history, left_on="created_at", right_on="reviewed_at", by="author_id", allow_exact_matches=False, direction="backward"
    )
    return posts["post_id"].map(found.set_index("post_id")["num_removals"]).fillna(0).astype("int32").set_axis(posts["post_id"])


def current_removals(outcomes: pd.DataFrame, authors: "pd.Series[str]") -> dict[str, int]:
    """Count each author's posts × categories that stand as confirmed removals now.

    Args:
        outcomes: as in `prior_removals`.
        authors: as in `prior_removals`.

    Returns:
        author_id -> count; an author of whom nothing was reviewed is absent.
    """
    history = _removals_over_time(outcomes.assign(author_id=outcomes["post_id"].map(authors)).dropna(subset="author_id"))
    latest = history.sort_values("reviewed_at").drop_duplicates("author_id", keep="last")
    return dict(zip(latest["author_id"], latest["num_removals"], strict=True))


def _removals_over_time(outcomes: pd.DataFrame) -> pd.DataFrame:
    """author_id, reviewed_at, num_removals: the count after each review, in order of time."""
    rows = outcomes.sort_values(["outcome_id", "revision"])
    says = rows["verdict"].map({"confirm_removal": 1, "restore": -1}).fillna(0).astype(int)
    rows = rows.assign(change=says - says.groupby(rows["outcome_id"]).shift(fill_value=0))  # a revision takes back the one before
    rows = rows.sort_values(["reviewed_at", "outcome_id", "revision"])
    removed = rows.groupby(PAIR)["change"].cumsum() > 0
    before = removed.groupby([rows[name] for name in PAIR]).shift(fill_value=False)
    rows["step"] = removed.astype(int) - before.astype(int)
    rows["num_removals"] = rows.groupby("author_id")["step"].cumsum()
    return rows.drop_duplicates(["author_id", "reviewed_at"], keep="last")[["author_id", "reviewed_at", "num_removals"]]
