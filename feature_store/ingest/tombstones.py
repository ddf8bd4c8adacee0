"""Who must be forgotten: tombstones name posts and authors, and an author's posts follow from the author."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
import pyarrow as pa

from upheld.feature_store.ingest.known_rows import matching
from upheld.feature_store.ledger.ledger import Change


@dataclass(frozen=True)
class Erasure:
    """Ids of posts and authors of which nothing may stay.

    Attributes:
        all_posts, all_authors: every one.
        new_posts: posts that this delivery adds.
        new_authors: authors that this delivery adds.
        derived: posts that are forgotten for their author's sake alone and were not noted so before.
    """

    all_posts: pa.Array
    all_authors: pa.Array
    new_posts: pa.Array
    new_authors: pa.Array
    derived: pa.Array


def erased_by(change: Change, delivered: pd.DataFrame, posts: pd.DataFrame) -> Erasure:
    """Put together what the ledger and the delivery say.

    Args:
        change: the ledger, before this delivery.
        delivered: post_id, author_id of the delivered tombstones.
        posts: post_id, author_id of every delivered row of posts, well formed or not.
    """
    noted_posts, noted_authors = _ids(change, "tombstones", "post_id"), _ids(change, "tombstones", "author_id")
    derived_before = _ids(change, "refused_posts", "post_id")
    authors = noted_authors | frozenset(delivered.author_id.dropna())
    new_authors = _strings(authors - noted_authors)
    held = [matching(change, table, ["post_id"], author_id=new_authors)["post_id"] for table in ("posts", "quarantine")]
    known = frozenset(post for column in held for post in column.drop_null().to_pylist())
    theirs = frozenset(posts.post_id[posts.author_id.isin(authors)].dropna()) | known
    by_name = noted_posts | frozenset(delivered.post_id.dropna())
    everyone = by_name | derived_before | theirs
    new = _strings(everyone - noted_posts - derived_before)
    return Erasure(_strings(everyone), _strings(authors), new, new_authors, _strings(theirs - by_name - derived_before))


def erase_elsewhere(change: Change, erasure: Erasure) -> None:
    """Delete what no other step reaches: bad rows of forgotten posts and authors, and draws; note the derived posts."""
    bad = matching(
        change, "quarantine", ["row_digest", "well_formed"], post_id=erasure.new_posts, author_id=erasure.new_authors
    ).to_pandas()
    change.delete("quarantine", "row_digest", bad.row_digest[~bad.well_formed.astype(bool)])
    draws = matching(change, "audit_draws", ["draw_id"], post_id=erasure.new_posts)["draw_id"]
    change.delete("audit_draws", "draw_id", draws.to_pylist())
    if len(erasure.derived):
        change.upsert("refused_posts", pa.table({"post_id": erasure.derived}))


def _ids(change: Change, table: str, column: str) -> frozenset[str]:
    return frozenset(value for batch in change.now(table, [column]) for value in batch[column].to_pylist() if value is not None)


def _strings(values: frozenset[str]) -> pa.Array:
    return pa.array(sorted(values), pa.string())


def named(*rows: Mapping[str, pa.ChunkedArray]) -> pd.DataFrame:
    """post_id and author_id of several tables, one below the other."""
    frames = [pd.DataFrame({name: part[name].to_pandas() for name in ("post_id", "author_id")}) for part in rows]
    return pd.concat(frames, ignore_index=True)
