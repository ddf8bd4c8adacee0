"""Take a delivery of posts, decisions and review outcomes into the ledger: every row is accepted, duplicate, pending or quarantined.

usage: upheld ingest DELIVERY [--as-of 2026-11-02T00:00:00Z] [--summary FILE]
"""

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import typer
from rich.markup import escape
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from upheld.common import progress
from upheld.common.command import PARAM_OPTIONS, STORE_FOLDER, Output, ParamOptions, StoreFolder, command, parse_time
from upheld.common.params.params import Params, load
from upheld.common.terminal import console, visible
from upheld.feature_store.contracts import tables as contracts
from upheld.feature_store.ingest import expectations
from upheld.feature_store.ingest.apply import Stamp, drop_media, media_of_leaving, write_bad, write_media, write_rows
from upheld.feature_store.ingest.conflicts import (
    ACCEPTED,
    DUPLICATE,
    IDENTICAL,
    PENDING,
    QUARANTINED,
    TOMBSTONED,
    ReferenceData,
    Resolved,
    among,
    resolve,
)
from upheld.feature_store.ingest.delivery import delivery_digest, image_decoders, open_delivery, table_files
from upheld.feature_store.ingest.known_rows import known_claims, matching
from upheld.feature_store.ingest.row_checks import Rules
from upheld.feature_store.ingest.staging import INDEX, StagedFile, Staging
from upheld.feature_store.ingest.tombstones import Erasure, erase_elsewhere, erased_by, named
from upheld.feature_store.ledger import ledger

_STATUSES = (ACCEPTED, DUPLICATE, PENDING, QUARANTINED)


def summarise(
    stamp: Stamp, synthetic: bool, staged: Mapping[str, Sequence[StagedFile]], resolved: Mapping[str, Resolved], bad: pd.DataFrame
) -> dict[str, Any]:
    """Count what became of every delivered row.

    Args:
        stamp: which ingest.
        synthetic: whether the delivery came from our generator.
        staged: table -> its files.
        resolved: table -> what became of its well-formed rows.
        bad: table, status, reason of every other row.

    Returns:
        JSON content; in each table rows = accepted + duplicate + pending + quarantined. Only delivered tables are listed.
    """
    tables = {}
    for table in (table for table, some in staged.items() if some):
        rows = pd.concat([part[["status", "reason"]] for part in (resolved[table].delivered, bad[bad["table"] == table])])
        counts = Counter(rows.status)
        by_reason = Counter(rows.reason[rows.status == QUARANTINED])
        states = {status: counts[status] for status in _STATUSES}
        tables[table] = {"rows": len(rows), **states, "by_reason": dict(sorted(by_reason.items()))}
    files = [
        {"path": file.file.path, "status": file.status, "reason": file.reason, "detail": file.detail}
        for some in staged.values()
        for file in some
    ]
    changed = {}
    for table, moved in ((table, done.moved) for table, done in resolved.items() if len(done.moved)):
        moves = Counter(f"{was} to {status}" for was, status in zip(moved.was, moved.status, strict=True))
        changed[table] = dict(sorted(moves.items()))
    return {
        "delivery_digest": stamp.delivery,
        "as_of": stamp.as_of.isoformat(),
        "synthetic": synthetic,
        "tables": tables,
        "files": files,
        "changed": changed,
    }


def print_summary(summary: Mapping[str, Any]) -> None:
    """Print the summary as tables on standard output."""
    shown = console(stderr=False)
    counts = Table(title="Delivery" + (" (synthetic)" if summary["synthetic"] else ""), title_justify="left")
    for name in ("table", "rows", *_STATUSES):
        counts.add_column(name, justify="left" if name == "table" else "right")
    for table, of in summary["tables"].items():
        counts.add_row(table, *(f"{of[name]:,}" for name in ("rows", *_STATUSES)))
    shown.print(counts)
    remarks = {
        "Quarantined": [f"{table}: {n:,} {why}" for table, of in summary["tables"].items() for why, n in of["by_reason"].items()],
        "Files": [f"{file['path']}: {file['status']}, {file['reason']}: {file['detail']}" for file in summary["files"] if file["reason"]],
        "Rows of earlier deliveries": [f"{table}: {n:,} {move}" for table, of in summary["changed"].items() for move, n in of.items()],
        "Expectations not met (the snapshot is blocked)": [
            f"{check['name']}: {check['detail']}" for check in summary["validation"].get("checks", []) if not check["success"]
        ],
    }
    for title, lines in remarks.items():
        if lines:
            shown.print(title)
            for line in lines:
                shown.print(f"  {escape(visible(line))}", highlight=False, soft_wrap=True)


def run(params: Params, delivery: str, store: Path, as_of: datetime) -> dict[str, Any]:
    """Ingest one delivery.

    Args:
        params: reads policies, ingest, expectations, and of features how images are decoded.
        delivery: local folder or fsspec URL.
        store: folder that holds the ledger; made if missing.
        as_of: "now": what lies later is from the future.

    Returns:
        the summary: delivery_digest, as_of, synthetic, tables (counts), files (status), changed (known rows that became something
        else), validation (how the accepted batch fared).

    Raises:
        BadUse: there is no delivery.
        FailedWork: another process is writing to the ledger.
    """
    source = open_delivery(delivery)
    files = table_files(source)
    stamp = Stamp(as_of, delivery_digest(source, files))
    synthetic = source.has(contracts.SYNTHETIC_MARK)
    with ledger.writing(store) as change, image_decoders(params) as decoders:
        staging = Staging(source, Rules(params.policies, params.ingest), change.scratch, decoders)
        staged: dict[str, list[StagedFile]] = {table: [] for table in contracts.DELIVERED}
        shown = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,.0f} rows"), TimeElapsedColumn())
        with progress.shown(*shown, unit="rows", transient=True) as bars:
            task = bars.add_task("reading", total=None)
            for file in files:
                bars.update(task, description=file.path)
                staged[file.table].append(staging.stage(file, partial(bars.advance, task)))
            bars.update(task, description="settling")
        resolved, bad = _take(change, staging, staged, stamp, pd.Timedelta(seconds=params.ingest.max_clock_skew_s))
        summary = summarise(stamp, synthetic, staged, resolved, bad)
        summary["validation"] = expectations.judge(change, summary["tables"], stamp.delivery, as_of, params.expectations)
        if not change.made:  # a delivery that brought nothing new leaves every table as it was
            change.commit(validation=summary["validation"])
            return summary
        row = {"delivery": stamp.delivery, "as_of": stamp.as_of, "synthetic": synthetic, "summary": json.dumps(summary, sort_keys=True)}
        change.upsert("deliveries", pa.Table.from_pylist([row], contracts.DELIVERIES))
        latest = max(filter(None, (change.ledger.as_of, stamp.as_of)))
        synthetic_so_far = change.ledger.synthetic or synthetic
        change.commit(as_of=latest.isoformat(), synthetic=synthetic_so_far, validation=summary["validation"])
    return summary


def _take(
    change: ledger.Change, staging: Staging, staged: dict[str, list[StagedFile]], stamp: Stamp, skew: pd.Timedelta
) -> tuple[dict[str, Resolved], pd.DataFrame]:
    """Resolve and write table after table, in the order in which rows can refer to each other."""
    indexes = {table: pa.concat_tables([INDEX.empty_table(), *(file.index for file in files)]) for table, files in staged.items()}
    all_files = [file for files in staged.values() for file in files]
    bad = pa.concat_tables([file.bad for file in all_files])
    bad_posts = bad.filter(pc.equal(bad["table"], "posts"))
    erasure = erased_by(change, named(indexes["tombstones"]), named(indexes["posts"], bad_posts))
    erase_elsewhere(change, erasure)
    resolved = {}
    changed_ids = erasure.new_posts
    for table, index in indexes.items():
        delivered = index.to_pandas()
        known = known_claims(change, table, index["key"].combine_chunks().unique(), changed_ids)
        reference = _reference(change, table, pd.concat([delivered[["post_id", "draw_id"]], known[["post_id", "draw_id"]]]), erasure, skew)
        resolved[table] = resolve(delivered, known, reference, pd.Timestamp(stamp.as_of))
        candidates = media_of_leaving(change, resolved[table].moved) if table == "posts" else pa.array([], pa.string())
        write_rows(change, table, staged[table], resolved[table], stamp)
        if table == "posts":
            drop_media(change, candidates)
            write_media(change, staging, staged[table], resolved[table])
            changed_ids = pa.concat_arrays([changed_ids, resolved[table].changed_ids]).unique()
    # Rows that broke their contract: new ones go into quarantine.
    rows: pd.DataFrame = bad.select(["table", "reason", "row_digest", "post_id", "author_id"]).to_pandas()
    refused = among(rows.post_id, erasure.all_posts) | among(rows.author_id, erasure.all_authors)
    held = matching(change, "quarantine", ["row_digest"], row_digest=bad["row_digest"].combine_chunks())["row_digest"]
    again = among(rows.row_digest, held) & ~refused
    write_bad(change, all_files, ~again & ~refused, stamp)
    status = pd.Series(QUARANTINED, index=rows.index).mask(again, DUPLICATE)
    reason = rows.reason.mask(again, IDENTICAL).mask(refused, TOMBSTONED)
    return resolved, pd.DataFrame({"table": rows["table"], "status": status, "reason": reason})


def _reference(change: ledger.Change, table: str, claims: pd.DataFrame, erasure: Erasure, skew: pd.Timedelta) -> ReferenceData:
    """What the ledger holds to judge rows of a table against; `claims` has their post_id and draw_id."""
    names = {name: pa.array(claims[name].dropna().unique(), pa.string()) for name in ("draw_id", "post_id")}
    asked = names if "draw_id" in contracts.DELIVERED[table].schema.names else {}
    draws = matching(change, "audit_draws", ["draw_id", "post_id", "category", "inclusion_prob"], **asked).to_pandas().set_index("draw_id")
    if table == "tombstones":  # a wish to be forgotten holds whatever its date, and is not itself forgotten
        return ReferenceData(None, pa.array([], pa.string()), draws, pd.Timedelta(days=36_500))
    posts = None
    if contracts.DELIVERED[table].refers:
        posts = matching(change, "posts", ["post_id", "valid_at"], post_id=names["post_id"]).to_pandas().set_index("post_id").valid_at
    return ReferenceData(posts, erasure.all_posts, draws, skew)


@command("ingest")
def main(
    delivery: Annotated[str, typer.Argument(help="Folder or fsspec URL with posts/, decisions/, review_outcomes/, …")],
    as_of: Annotated[str | None, typer.Option("--as-of", help="Now, for replays; ISO 8601 with zone. Default: the clock.")] = None,
    summary: Annotated[Path | None, typer.Option(help="Write the summary here, as JSON.")] = None,
    asked: ParamOptions = PARAM_OPTIONS,
    store: StoreFolder = STORE_FOLDER,
) -> Output:
    """Take a delivery of posts, decisions and review outcomes into the ledger."""
    now = parse_time(as_of, "--as-of") if as_of else datetime.now(UTC)
    result = run(load(*asked, store), delivery, store, now)
    rejected = [f"{file['path']}: {file['reason']}: {file['detail']}" for file in result["files"] if file["status"] == "rejected"]
    failure = f"{rejected[0]} ({len(rejected)} of {len(result['files'])} files not taken; the others are in)" if rejected else None
    return Output(result, lambda: print_summary(result), failure, summary)


if __name__ == "__main__":
    sys.exit(main())
