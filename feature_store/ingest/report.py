"""What an ingest did: the summary as JSON, and as tables for people."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from rich.markup import escape
from rich.table import Table

from upheld.common.terminal import console, visible
from upheld.feature_store.ingest.apply import Stamp
from upheld.feature_store.ingest.resolution import ACCEPTED, PENDING, QUARANTINED
from upheld.feature_store.ingest.resolve import DUPLICATE, Resolved
from upheld.feature_store.ingest.staging import StagedFile

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
    tables = {table: _counts(resolved[table].delivered, bad[bad["table"] == table]) for table, files in staged.items() if files}
    files = [
        {"path": file.file.path, "status": file.status, "reason": file.reason, "detail": file.detail}
        for some in staged.values()
        for file in some
    ]
    changed = {table: _moves(done.moved) for table, done in resolved.items() if len(done.moved)}
    return {
        "delivery_digest": stamp.delivery,
        "as_of": stamp.as_of.isoformat(),
        "synthetic": synthetic,
        "tables": tables,
        "files": files,
        "changed": changed,
    }


def _moves(moved: pd.DataFrame) -> dict[str, int]:
    return dict(sorted(Counter(f"{was} to {status}" for was, status in zip(moved.was, moved.status, strict=True)).items()))


def _counts(well_formed: pd.DataFrame, bad: pd.DataFrame) -> dict[str, Any]:
    rows = pd.concat([well_formed[["status", "reason"]], bad[["status", "reason"]]])
    counts = Counter(rows.status)
    by_reason = Counter(rows.reason[rows.status == QUARANTINED])
    return {"rows": len(rows), **{status: counts[status] for status in _STATUSES}, "by_reason": dict(sorted(by_reason.items()))}


def print_summary(summary: Mapping[str, Any]) -> None:
    """Print the summary as tables on standard output."""
    shown = console(stderr=False)
    counts = Table(title="Delivery" + (" (synthetic)" if summary["synthetic"] else ""), title_justify="left")
    for name in ("table", "rows", *_STATUSES):
        counts.add_column(name, justify="left" if name == "table" else "right")
    for table, of in summary["tables"].items():
        counts.add_row(table, *(f"{of[name]:,}" for name in ("rows", *_STATUSES)))
    shown.print(counts)
    for title, lines in _remarks(summary).items():
        if lines:
            shown.print(title)
            for line in lines:
                shown.print(f"  {escape(visible(line))}", highlight=False, soft_wrap=True)


def _remarks(summary: Mapping[str, Any]) -> dict[str, list[str]]:
    return {
        "Quarantined": [f"{table}: {n:,} {why}" for table, of in summary["tables"].items() for why, n in of["by_reason"].items()],
        "Files": [f"{file['path']}: {file['status']}, {file['reason']}: {file['detail']}" for file in summary["files"] if file["reason"]],
        "Rows of earlier deliveries": [f"{table}: {n:,} {move}" for table, of in summary["changed"].items() for move, n in of.items()],
        "Expectations not met (the snapshot is blocked)": [
            f"{check['name']}: {check['detail']}" for check in summary["validation"].get("checks", []) if not check["success"]
        ],
    }
