"""What becomes of well-formed rows, seen together: a pure function of all that was ever delivered, in whatever order."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from upheld.feature_store.ingest.convert import flags

ACCEPTED, PENDING, QUARANTINED, REFUSED = "accepted", "pending", "quarantined", "refused"
DUPLICATE = "duplicate"
# Reasons.
IDENTICAL, TOMBSTONED = "duplicate_identical", "tombstoned"

# What the quarantine and pending tables say beside the code.
DETAILS = {
    "timestamp_future": "later than the ingest that first brought it",
    "duplicate_conflict": "another row has this key and revision, says something else and was there before, or came with it",
    "revision_changes_identity": "another revision of it is about another post or category, or by another reviewer",
    "unknown_post": "its post has not arrived or is itself in quarantine",
    "timestamp_order": "earlier than its post",
    "draw_mismatch": "its draw_id was drawn for another post or category",
    "inclusion_prob_disagrees": "audit_draws holds another inclusion_prob for its draw_id",
    "draw_id_missing": "audit-sample drew its post and category, and its draw_id is not that draw's; give it in a higher revision",
}
# Reasons of rows that another row with their key has kept out.
KEPT_OUT = ("duplicate_conflict", "revision_changes_identity")
_IDENTITY = ["post_id", "category", "reviewer_id"]
_ANSWERS = ("audit_removed", "audit_passed")  # sources that exist only where somebody drew
# Inclusion probabilities pass through CSV and JSON; more than this apart is another probability.
_SAME_PROB = 1e-9


@dataclass(frozen=True)
class ReferenceData:
    """What rows are judged against.

    Attributes:
        posts: post_id (index) -> time of creation, for accepted posts; None for a table that does not speak of posts.
        refused: ids of posts that must be forgotten.
        draws: draw_id (index) -> post_id, category, inclusion_prob, of every draw that is named or whose post is spoken of.
        max_clock_skew: how far a row may lie ahead of the ingest that first brought it.
    """

    posts: "pd.Series[pd.Timestamp] | None"
    refused: pa.Array
    draws: pd.DataFrame
    max_clock_skew: pd.Timedelta


def judge(claims: pd.DataFrame, reference: ReferenceData) -> pd.DataFrame:
    """Judge the well-formed rows of one table.

    Args:
        claims: rows with different contents: key, revision, post_id, valid_at, recorded_at, category, reviewer_id, source, draw_id,
            inclusion_prob, and `holds` (bool: known, and not kept out of its key by another row). Every row with the same key as one of
            them must be among them.

    Returns:
        columns status (`accepted`, `pending`, `quarantined`, `refused`) and reason ("" where accepted), index as `claims`.
        Conflicts come before everything that depends on other tables, so that the result does not depend on what is known of those.
        Of rows that contradict each other the one that was recorded first stands, so that nobody can take its place later; rows that came
        in one delivery keep each other out. Rows recorded at the same time by different ingests: the one that was taken in first stands.
    """
    status = np.full(len(claims), ACCEPTED, object)
    reason = np.full(len(claims), "", object)

    def mark(bad: np.ndarray, state: str, why: str) -> None:
        fresh = bad & (status == ACCEPTED)
        status[fresh], reason[fresh] = state, why

    mark(among(claims.post_id, reference.refused), REFUSED, TOMBSTONED)
    mark((claims.valid_at > claims.recorded_at + reference.max_clock_skew).to_numpy(bool), QUARANTINED, "timestamp_future")
    sound = status == ACCEPTED
    conflict = np.zeros(len(claims), bool)
    conflict[sound] = _contested(claims[sound])
    mark(conflict, QUARANTINED, "duplicate_conflict")
    sound = status == ACCEPTED
    other = np.zeros(len(claims), bool)
    other[sound] = _of_another(claims[sound])
    mark(other, QUARANTINED, "revision_changes_identity")
    if reference.posts is not None:
        created_at = pd.Series(reference.posts.reindex(claims.post_id).array, index=claims.index)
        mark(created_at.isna().to_numpy(bool), PENDING, "unknown_post")
        mark((claims.valid_at < created_at).to_numpy(bool), QUARANTINED, "timestamp_order")
        for why, bad in _against_draws(claims, reference.draws).items():
            mark(bad, QUARANTINED, why)
    return pd.DataFrame({"status": status, "reason": reason}, index=claims.index)


def among(values: "pd.Series[str]", others: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """bool (N,): which of N values occur among others; null never does."""
    # Arrow, because `Series.isin` visits each of the others in Python.
    return flags(pc.is_in(pa.array(values, pa.string()), value_set=others.drop_null()))


def _contested(claims: pd.DataFrame) -> np.ndarray:
    """bool (N,): rows whose key and revision belong to a row that was there before, or to none as two were there first."""
    contested = np.array(claims.duplicated(["key", "revision"], keep=False), bool)
    rows = claims[contested].sort_values(["recorded_at", "holds"], ascending=[True, False])
    group = [rows["key"], rows["revision"]]
    first = rows.groupby(group)[["recorded_at", "holds"]].transform("first")
    leads = (rows["recorded_at"] == first["recorded_at"]) & (rows["holds"] == first["holds"])
    stands = leads & (leads.groupby(group).transform("sum") == 1)
    contested[contested] = ~stands.reindex(claims.index[contested]).to_numpy(bool)
    return contested


def _of_another(claims: pd.DataFrame) -> np.ndarray:
    """bool (N,): revisions that are not about the post and category, or not by the reviewer, of the one that was there first."""
    revised = np.array(claims.duplicated("key", keep=False), bool)
    rows = claims[revised].sort_values(["recorded_at", "holds", "revision"], ascending=[True, False, True])
    identity = rows[_IDENTITY].fillna("")
    differs = (identity != identity.groupby(rows["key"]).transform("first")).any(axis=1)
    revised[revised] = differs.reindex(claims.index[revised]).to_numpy(bool)
    return revised


def _against_draws(claims: pd.DataFrame, draws: pd.DataFrame) -> dict[str, np.ndarray]:
    """Outcomes of a draw of ours that do not answer it. A draw_id that we do not know belongs to somebody else's sampler, unless an
    audit's outcome gives it for a post that we drew: it would bring a probability of its own."""
    known = among(claims.draw_id, pa.array(draws.index, pa.string()))
    other = np.zeros(len(claims), bool)
    apart = np.zeros(len(claims), bool)
    if known.any():
        answers, drawn = claims[known], draws.loc[claims.draw_id[known]]
        other[known] = (answers.post_id.to_numpy() != drawn.post_id.to_numpy()) | (answers.category.to_numpy() != drawn.category.to_numpy())
        ratio = answers.inclusion_prob.to_numpy(float) / drawn.inclusion_prob.to_numpy(float)
        apart[known] = np.abs(ratio - 1) > _SAME_PROB
    unnamed = np.array(claims.source.isin(_ANSWERS), bool) & ~known & bool(len(draws))
    if unnamed.any():
        drawn_by_us = pd.MultiIndex.from_frame(draws[["post_id", "category"]])
        unnamed[unnamed] = pd.MultiIndex.from_frame(claims.loc[unnamed, ["post_id", "category"]]).isin(drawn_by_us)
    return {"draw_mismatch": other, "inclusion_prob_disagrees": apart, "draw_id_missing": unnamed}


@dataclass(frozen=True)
class Resolved:
    """The outcome for one table.

    Attributes:
        delivered: status (`accepted`, `duplicate`, `pending`, `quarantined`), reason, and `fresh` (bool: to be written), one row
            for each delivered row, in order.
        moved: known rows that change: row_digest, post_id, was (status so far), status, reason, recorded_at.
        changed_ids: posts that are accepted now and were not, or the reverse; empty for other tables.
    """

    delivered: pd.DataFrame
    moved: pd.DataFrame
    changed_ids: pa.Array


def resolve(delivered: pd.DataFrame, known: pd.DataFrame, reference: ReferenceData, as_of: pd.Timestamp) -> Resolved:
    """Judge delivered rows together with the known ones that they touch.

    Args:
        delivered: columns `staging.INDEX`, one row a delivered row.
        known: the same columns and recorded_at, status, reason (`known_rows.known_claims`).
        as_of: time of this ingest.
    """
    digests, known_digests = (pa.array(rows.row_digest, pa.string()) for rows in (delivered, known))
    fresh = ~delivered.row_digest.duplicated().to_numpy() & ~among(delivered.row_digest, known_digests)
    new = delivered[fresh].assign(recorded_at=as_of, holds=False)
    sooner = among(known.row_digest, digests) & (known.recorded_at > as_of)  # they came in this delivery, as its other rows did
    before = known.assign(recorded_at=known.recorded_at.mask(sooner, as_of), holds=~known.reason.isin(KEPT_OUT) & ~sooner)
    claims = pd.concat([part for part in (before, new) if len(part)] or [before], ignore_index=True)
    verdicts = judge(claims, reference)
    old, fresh_verdicts = verdicts[: len(known)], verdicts[len(known) :]
    changed = (old.status.ne(known.status) | old.reason.ne(known.reason) | before.recorded_at.ne(known.recorded_at)).to_numpy(bool)
    moved = before[["row_digest", "post_id", "recorded_at"]].assign(was=known.status, status=old.status, reason=old.reason)[changed]
    status = np.full(len(delivered), DUPLICATE, object)
    reason = np.full(len(delivered), IDENTICAL, object)
    status[fresh], reason[fresh] = fresh_verdicts.status, fresh_verdicts.reason
    erased = among(delivered.post_id, reference.refused)
    status[erased], reason[erased] = QUARANTINED, TOMBSTONED
    outcome = pd.DataFrame({"status": status, "reason": reason, "fresh": fresh & ~erased})
    gained = new.post_id[(fresh_verdicts.status == ACCEPTED).to_numpy(bool)]
    turned = moved.post_id[(moved.was == ACCEPTED) != (moved.status == ACCEPTED)]
    return Resolved(outcome, moved, pa.array(pd.concat([gained, turned]).dropna().unique(), pa.string()))


def leaves(moved: pd.DataFrame) -> pd.Series:
    """bool a row of `Resolved.moved`: it leaves the ledger for good."""
    return moved.status == REFUSED
