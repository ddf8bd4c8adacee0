"""What becomes of well-formed rows, seen together: a pure function of all that was ever delivered, in whatever order."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.ingest_values import flags

ACCEPTED, PENDING, QUARANTINED, REFUSED = "accepted", "pending", "quarantined", "refused"
TOMBSTONED = "tombstoned"

# What the quarantine and pending tables say beside the code.
DETAILS = {
    "timestamp_future": "later than the ingest that first brought it",
    "duplicate_conflict": "another row has this key and revision and says something else",
    "unknown_post": "its post has not arrived or is itself in quarantine",
    "timestamp_order": "earlier than its post",
    "draw_mismatch": "its draw_id was drawn for another post or category",
    "inclusion_prob_disagrees": "audit_draws holds another inclusion_prob for its draw_id",
}
# Inclusion probabilities pass through CSV and JSON; more than this apart is another probability.
_SAME_PROB = 1e-9


@dataclass(frozen=True)
class Surroundings:
    """What rows are judged against.

    Attributes:
        posts: post_id (index) -> time of creation, for accepted posts; None for a table that does not speak of posts.
        refused: ids of posts that must be forgotten.
        draws: draw_id (index) -> post_id, category, inclusion_prob.
        max_clock_skew: how far a row may lie ahead of the ingest that first brought it.
    """

    posts: "pd.Series[pd.Timestamp] | None"
    refused: pa.Array
    draws: pd.DataFrame
    max_clock_skew: pd.Timedelta


def judge(claims: pd.DataFrame, around: Surroundings) -> pd.DataFrame:
    """Judge the well-formed rows of one table.

    Args:
        claims: rows with different contents: key, revision, post_id, valid_at, recorded_at, category, draw_id, inclusion_prob.
            Every row with the same key and revision as one of them must be among them.
        around: what they are judged against.

    Returns:
        columns status (`accepted`, `pending`, `quarantined`, `refused`) and reason ("" where accepted), index as `claims`.
        Conflicts come before everything that depends on other tables, so that the result does not depend on what is known of those.
    """
    status = np.full(len(claims), ACCEPTED, object)
    reason = np.full(len(claims), "", object)

    def mark(bad: np.ndarray, state: str, why: str) -> None:
        fresh = bad & (status == ACCEPTED)
        status[fresh], reason[fresh] = state, why

    mark(among(claims.post_id, around.refused), REFUSED, TOMBSTONED)
    mark((claims.valid_at > claims.recorded_at + around.max_clock_skew).to_numpy(bool), QUARANTINED, "timestamp_future")
    sound = status == ACCEPTED
    conflict = np.zeros(len(claims), bool)
    conflict[sound] = claims.loc[sound, ["key", "revision"]].duplicated(keep=False)
    mark(conflict, QUARANTINED, "duplicate_conflict")
    if around.posts is not None:
        created_at = pd.Series(around.posts.reindex(claims.post_id).array, index=claims.index)
        mark(created_at.isna().to_numpy(bool), PENDING, "unknown_post")
        mark((claims.valid_at < created_at).to_numpy(bool), QUARANTINED, "timestamp_order")
        for why, bad in _against_draws(claims, around.draws).items():
            mark(bad, QUARANTINED, why)
    return pd.DataFrame({"status": status, "reason": reason}, index=claims.index)


def among(values: "pd.Series[str]", others: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """bool (N,): which of N values occur among others; null never does."""
    # Arrow, because `Series.isin` visits each of the others in Python.
    return flags(pc.is_in(pa.array(values, pa.string()), value_set=others.drop_null()))


def _against_draws(claims: pd.DataFrame, draws: pd.DataFrame) -> dict[str, np.ndarray]:
    """Outcomes of a draw of ours that do not answer it. A draw_id that we do not know belongs to somebody else's sampler."""
    known = among(claims.draw_id, pa.array(draws.index, pa.string()))
    other = np.zeros(len(claims), bool)
    apart = np.zeros(len(claims), bool)
    if known.any():
        answers, drawn = claims[known], draws.loc[claims.draw_id[known]]
        other[known] = (answers.post_id.to_numpy() != drawn.post_id.to_numpy()) | (answers.category.to_numpy() != drawn.category.to_numpy())
        ratio = answers.inclusion_prob.to_numpy(float) / drawn.inclusion_prob.to_numpy(float)
        apart[known] = np.abs(ratio - 1) > _SAME_PROB
    return {"draw_mismatch": other, "inclusion_prob_disagrees": apart}
