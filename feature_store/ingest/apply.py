"""Second pass over a delivery: what the resolution decided is written to the ledger."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from upheld.feature_store.contracts import tables as contracts
from upheld.feature_store.ingest.conflicts import ACCEPTED, PENDING, QUARANTINED, Resolved, leaves
from upheld.feature_store.ingest.known_rows import chunks, matching, place, records_of, rows_of
from upheld.feature_store.ingest.staging import StagedFile, Staging, read_staged
from upheld.feature_store.ledger.ledger import Change


@dataclass(frozen=True)
class Stamp:
    """Which ingest wrote a row: its time, and the digest of the delivery."""

    as_of: datetime
    delivery: str


def write_rows(change: Change, table: str, files: Sequence[StagedFile], resolved: Resolved, stamp: Stamp) -> None:
    """Write one table's new rows, and move the known ones that changed.

    Args:
        table: a delivered table.
        files: its staged files, in the order in which `resolved.delivered` has their rows.
        stamp: which ingest this is.
    """
    _move(change, table, resolved.moved)
    for status in (ACCEPTED, PENDING, QUARANTINED):
        chosen = (resolved.delivered.fresh & (resolved.delivered.status == status)).to_numpy(bool)
        if not chosen.any():
            continue
        rows = _chosen(table, files, chosen, stamp)
        if status == ACCEPTED:
            change.upsert(table, (batch for part, _ in rows for batch in part.to_batches()))
        else:
            reasons = resolved.delivered.reason.to_numpy(object)
            records = (records_of(table, part, reasons[at]) for part, at in rows)
            change.upsert(place(table, status), (batch for part in records for batch in part.to_batches()))


def _chosen(table: str, files: Sequence[StagedFile], chosen: np.ndarray, stamp: Stamp) -> Iterator[tuple[pa.Table, np.ndarray]]:
    """The chosen rows as the ledger has them, a batch at a time, with their positions in `chosen`."""
    schema = contracts.LEDGER[table]
    start = 0
    for batch in (batch for file in files for batch in read_staged(file.rows_path)):
        here = np.flatnonzero(chosen[start : start + batch.num_rows])
        if len(here):
            rows = pa.Table.from_batches([batch]).take(here)
            added = {
                "valid_at": rows[contracts.DELIVERED[table].time],
                "recorded_at": pa.array([stamp.as_of] * len(rows), contracts.TIMESTAMP),
                "delivery": pa.array([stamp.delivery] * len(rows), pa.string()),
            }
            columns = [added[name] if name in added else rows[name] for name in schema.names]
            yield pa.table(columns, schema=schema), here + start
        start += batch.num_rows


def _move(change: Change, table: str, moved: pd.DataFrame) -> None:
    """Put known rows where their new status belongs, with the time of record that they have now; delete them where they were."""
    for was, some in moved.groupby("was", sort=True):
        origin = place(table, str(was))
        staying = some[~leaves(some)]
        found = matching(change, origin, contracts.LEDGER[origin].names, row_digest=pa.array(staying.row_digest, pa.string()))
        for part in chunks(found):
            known = part if origin == table else rows_of(table, part)
            for status, wanted in staying.groupby("status", sort=True):
                rows = known.filter(pc.is_in(known["row_digest"], pa.array(wanted.row_digest, pa.string())))
                if not len(rows):
                    continue
                state = wanted.set_index("row_digest").reindex(rows["row_digest"].to_pylist())
                times = pa.array(state.recorded_at.dt.tz_convert(None).to_numpy(), pa.timestamp("us")).cast(contracts.TIMESTAMP)
                column = rows.column_names.index("recorded_at")
                rows = rows.set_column(column, rows.schema.field(column), times)
                target = place(table, str(status))
                change.upsert(target, rows if target == table else records_of(table, rows, state.reason))
        stays = np.array([place(table, status) == origin for status in some.status]) & ~leaves(some).to_numpy(bool)
        change.delete(origin, "row_digest", some.row_digest[~stays])


def write_bad(change: Change, files: Sequence[StagedFile], fresh: np.ndarray, stamp: Stamp) -> None:
    """Put rows that broke their contract into quarantine, those that are `fresh`: bool, one a bad row of the staged files, in order."""
    if not fresh.any():
        return

    def batches() -> Iterator[pa.RecordBatch]:
        start = 0
        for batch in (batch for file in files for batch in read_staged(file.bad_path)):
            here = np.flatnonzero(fresh[start : start + batch.num_rows])
            rows = pa.Table.from_batches([batch]).take(here)
            rows = rows.append_column("recorded_at", pa.array([stamp.as_of] * len(rows), contracts.TIMESTAMP))
            yield from (
                rows.append_column("delivery", pa.array([stamp.delivery] * len(rows), pa.string()))
                .select(contracts.QUARANTINE.names)
                .to_batches()
            )
            start += batch.num_rows

    change.upsert("quarantine", batches())


def write_media(change: Change, staging: Staging, files: Sequence[StagedFile], resolved: Resolved) -> None:
    """Keep the media of new posts, each file once."""
    fresh = resolved.delivered.fresh.to_numpy(bool)
    start = 0
    found = [pa.array([], pa.string())]
    for batch in (batch for file in files for batch in read_staged(file.rows_path)):
        found.append(_media_digests(batch.filter(pa.array(fresh[start : start + batch.num_rows]))["media"]))
        start += batch.num_rows
    wanted = pa.concat_arrays(found).unique()
    held = matching(change, "media", ["digest"], digest=wanted)["digest"]
    missing = wanted.filter(pc.invert(pc.is_in(wanted, value_set=held))) if len(held) else wanted
    if len(missing):
        change.upsert("media", (batch.filter(pc.is_in(batch["digest"], value_set=missing)) for batch in staging.media()))


def _media_digests(media: pa.Array | pa.ChunkedArray) -> pa.Array:
    flat = pc.struct_field(pc.list_flatten(media), "digest")
    return flat.combine_chunks() if isinstance(flat, pa.ChunkedArray) else flat


def media_of_leaving(change: Change, moved: pd.DataFrame) -> pa.Array:
    """Digests of the media of known posts that are about to leave the ledger. Call before `write_rows`."""
    going = pa.array(moved.row_digest[leaves(moved)], pa.string())
    accepted = matching(change, "posts", ["media"], row_digest=going)["media"]
    held = matching(change, "quarantine", contracts.QUARANTINE.names, row_digest=going)
    return pa.concat_arrays([_media_digests(accepted), _media_digests(rows_of("posts", held)["media"])]).unique()


def drop_media(change: Change, candidates: pa.Array) -> None:
    """Delete those media, of posts that left, to which no post refers any more. Call after `write_rows`."""
    if not len(candidates):
        return
    accepted = [_media_digests(batch["media"]) for batch in change.now("posts", ["media"])]
    held = pa.Table.from_batches(list(change.now("quarantine", contracts.QUARANTINE.names)), contracts.QUARANTINE)
    held = held.filter(pc.and_(pc.equal(held["table"], "posts"), held["well_formed"]))
    used = pa.concat_arrays([pa.array([], pa.string()), *accepted, _media_digests(rows_of("posts", held)["media"])]).unique()
    unused = candidates.filter(pc.invert(pc.is_in(candidates, value_set=used)))
    present = matching(change, "media", ["digest"], digest=unused)["digest"]
    change.delete("media", "digest", present.to_pylist())
