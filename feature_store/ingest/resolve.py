"""What a delivery's well-formed rows of one table change: which are new, and which known rows are now something else."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from upheld.feature_store.ingest.resolution import ACCEPTED, KEPT_OUT, QUARANTINED, REFUSED, TOMBSTONED, Surroundings, among, judge

DUPLICATE = "duplicate"
IDENTICAL = "duplicate_identical"


@dataclass(frozen=True)
class Resolved:
    """The outcome for one table.

    Attributes:
        delivered: status (`accepted`, `duplicate`, `pending`, `quarantined`), reason, and `fresh` (bool: to be written), one row
            for each delivered row, in order.
        moved: known rows that change: row_digest, post_id, was (status so far), status, reason, recorded_at.
        touched: posts that are accepted now and were not, or the reverse; empty for other tables.
    """

    delivered: pd.DataFrame
    moved: pd.DataFrame
    touched: pa.Array


def resolve(delivered: pd.DataFrame, known: pd.DataFrame, around: Surroundings, as_of: pd.Timestamp) -> Resolved:
    """Judge delivered rows together with the known ones that they touch.

    Args:
        delivered: columns `ingest_stage.INDEX`, one row a delivered row.
        known: the same columns and recorded_at, status, reason (`ingest_known.known_claims`).
        around: what they are judged against.
        as_of: time of this ingest.
    """
    digests, known_digests = (pa.array(rows.row_digest, pa.string()) for rows in (delivered, known))
    fresh = ~delivered.row_digest.duplicated().to_numpy() & ~among(delivered.row_digest, known_digests)
    new = delivered[fresh].assign(recorded_at=as_of, holds=False)
    sooner = among(known.row_digest, digests) & (known.recorded_at > as_of)  # they came in this delivery, as its other rows did
    before = known.assign(recorded_at=known.recorded_at.mask(sooner, as_of), holds=~known.reason.isin(KEPT_OUT) & ~sooner)
    claims = pd.concat([part for part in (before, new) if len(part)] or [before], ignore_index=True)
    verdicts = judge(claims, around)
    old, fresh_verdicts = verdicts[: len(known)], verdicts[len(known) :]
    changed = (old.status.ne(known.status) | old.reason.ne(known.reason) | before.recorded_at.ne(known.recorded_at)).to_numpy(bool)
    moved = before[["row_digest", "post_id", "recorded_at"]].assign(was=known.status, status=old.status, reason=old.reason)[changed]
    return Resolved(_reported(delivered, fresh, fresh_verdicts, around), moved, _touched(new, fresh_verdicts, moved))


def _reported(delivered: pd.DataFrame, fresh: np.ndarray, verdicts: pd.DataFrame, around: Surroundings) -> pd.DataFrame:
    status = np.full(len(delivered), DUPLICATE, object)
    reason = np.full(len(delivered), IDENTICAL, object)
    status[fresh], reason[fresh] = verdicts.status, verdicts.reason
    forgotten = among(delivered.post_id, around.refused)
    status[forgotten], reason[forgotten] = QUARANTINED, TOMBSTONED
    return pd.DataFrame({"status": status, "reason": reason, "fresh": fresh & ~forgotten})


def _touched(new: pd.DataFrame, verdicts: pd.DataFrame, moved: pd.DataFrame) -> pa.Array:
    gained = new.post_id[(verdicts.status == ACCEPTED).to_numpy(bool)]
    turned = moved.post_id[(moved.was == ACCEPTED) != (moved.status == ACCEPTED)]
    return pa.array(pd.concat([gained, turned]).dropna().unique(), pa.string())


def leaves(moved: pd.DataFrame) -> pd.Series:
    """bool a row of `Resolved.moved`: it leaves the ledger for good."""
    return moved.status == REFUSED
