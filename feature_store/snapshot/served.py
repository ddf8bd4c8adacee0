"""What models in production decided, and the posts that nobody reviewed: by their scores a new model learns what the old one knew."""

from collections.abc import Iterable

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from upheld.feature_store.contracts.hashing import uniform
from upheld.feature_store.contracts.snapshot import SERVED
from upheld.feature_store.ledger.verdicts import ITEM

DECIDED = [*SERVED.names, "decision_id", "decided_at", "recorded_at"]  # columns of the ledger's decisions that are read


def first_decisions(batches: Iterable[pa.RecordBatch], post_ids: "pd.Series[str]", as_of: pd.Timestamp) -> pd.DataFrame:
    """The first decision on each post and category: the one by which it was drawn for review, and which no later review can have taught.

    Args:
        batches: decisions of the ledger with the columns DECIDED, in any order.
        post_ids: posts wanted.
        as_of: what was recorded or decided later is unknown.

    Returns:
        columns of SERVED, one row a post and category, in their order.
    """
    wanted = pa.array(post_ids, pa.string())
    parts = [batch.filter(pc.is_in(batch["post_id"], wanted)) for batch in batches]
    rows: pd.DataFrame = pa.Table.from_batches(parts, parts[0].schema).to_pandas() if parts else pd.DataFrame(columns=DECIDED)
    rows = rows[(rows["recorded_at"] <= as_of) & (rows["decided_at"] <= as_of)]
    first = rows.sort_values([*ITEM, "decided_at", "decision_id"]).drop_duplicates(ITEM)
    table: pd.DataFrame = first[SERVED.names].reset_index(drop=True)
    return table


def candidates(rows: pd.DataFrame, num: int, seed: int) -> "pd.Series[str]":
    """Posts that may teach: a hash sample of those in the development window that have no label and that no champion has learned from.

    Args:
        rows: post_id, window, is_labelled, learned_as (null where no champion learned from it).
        num: most of them.
        seed: other seeds give other samples; a larger sample holds the smaller.
    """
    free = rows.loc[(rows["window"] == "development") & ~rows["is_labelled"] & rows["learned_as"].isna(), "post_id"]
    draw = pd.Series(uniform(f"unreviewed/{seed}", free), index=free.index)
    return free[draw.sort_values(kind="stable").index[:num]].sort_values(ignore_index=True)


def may_teach(posts: pd.DataFrame, content: pd.DataFrame) -> "pd.Series[bool]":
    """Whether a candidate shares neither text nor media with a post that is kept apart from training.

    Args:
        posts: post_id, split of the snapshot's posts.
        content: post_id, content_id of them and of the candidates.

    Returns:
        bool for each row of `content`; False for posts of the snapshot too.
    """
    kept_apart = posts.loc[posts["split"] != "train", "post_id"]
    taken = content.loc[content["post_id"].isin(kept_apart), "content_id"]
    return ~content["content_id"].isin(taken) & ~content["post_id"].isin(posts["post_id"])
