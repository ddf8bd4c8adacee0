"""Row contracts, judged a column at a time: which rows of a batch are well formed, and what is wrong with the others."""

from collections.abc import Callable, Collection

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from upheld.feature_store.ingest.batches import FileRejected, RawBatch
from upheld.feature_store.ingest.columns import convert
from upheld.feature_store.ingest.convert import flags
from upheld.feature_store.ingest.findings import (
    Findings,
    Rules,
    empty_is_null,
    identifiers,
    one_of,
    revision,
    short_and_clean,
    times,
    within,
)
from upheld.feature_store.ingest.posts import check_posts
from upheld.feature_store.ledger import tables as contracts


def check(table: str, batch: RawBatch, rules: Rules) -> tuple[pa.Table, Findings]:
    """Convert a batch to its contract and judge every row of it.

    Args:
        table: a key of `contracts.DELIVERED`.
        batch: N rows as delivered.
        rules: policies and bounds.

    Returns:
        the N rows with the contract's columns and types (null where a value is bad), and what is wrong with them.
        Optional text is null where it was empty, lists are empty where they were null.

    Raises:
        FileRejected: a required column is missing, or a column's type cannot be meant.
    """
    contract = contracts.DELIVERED[table]
    missing = [name for name in contract.schema.names if name not in batch.columns and name not in contract.optional]
    if missing and batch.header:
        raise FileRejected("missing_column", f"expected the columns {', '.join(missing)}")
    num_rows = len(batch.row_numbers)
    findings = Findings(num_rows)
    columns: dict[str, pa.Array] = {}
    for field in contract.schema:
        columns[field.name] = _column(batch, field, findings)
    _CHECKS[table](columns, findings, rules)
    return pa.Table.from_arrays(list(columns.values()), names=list(columns)), findings


def extra_columns(table: str, delivered: Collection[str]) -> list[str]:
    """Columns that the contract does not know; they are left out."""
    return [name for name in delivered if name not in contracts.DELIVERED[table].schema.names]


def _column(batch: RawBatch, field: pa.Field, findings: Findings) -> pa.Array:
    num_rows = len(batch.row_numbers)
    if field.name not in batch.columns:
        return pa.nulls(num_rows, field.type)
    values, faults = convert(batch.columns[field.name], field.type, field.name)
    for reason, bad in faults.items():
        findings.mark(bad, reason, f"column {field.name}")
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    return empty_is_null(values) if field.nullable and pa.types.is_string(field.type) else values


def _decisions(columns: dict[str, pa.Array], findings: Findings, rules: Rules) -> None:
    identifiers(columns, findings, rules, "decision_id", "post_id", "model_version")
    times(columns, findings, "decided_at")
    one_of(columns, findings, "category", rules.policies)
    one_of(columns, findings, "action", contracts.ACTIONS)
    score = columns["score"]
    findings.mark(flags(pc.or_kleene(pc.is_null(score), pc.is_nan(score))), "score_nan", "column score is no number")
    findings.mark(~within(score, 0.0, 1.0), "score_out_of_range", "column score: expected 0 to 1")


def _review_outcomes(columns: dict[str, pa.Array], findings: Findings, rules: Rules) -> None:
    identifiers(columns, findings, rules, "outcome_id", "post_id", "reviewer_id")
    short_and_clean(columns, findings, rules, "draw_id")
    revision(columns, findings, rules)
    times(columns, findings, "reviewed_at")
    one_of(columns, findings, "category", rules.policies)
    one_of(columns, findings, "verdict", contracts.VERDICTS)
    one_of(columns, findings, "source", contracts.SOURCES)
    prob = columns["inclusion_prob"]
    possible = within(prob, 0.0, 1.0) & ~flags(pc.equal(prob, 0.0))
    findings.mark(~possible, "inclusion_prob_out_of_range", "column inclusion_prob: expected more than 0, at most 1")
    least = rules.bounds.min_inclusion_prob
    findings.mark(~within(prob, least, 1.0), "inclusion_prob_too_small", f"column inclusion_prob: expected at least {least}")


def _logo_outcomes(columns: dict[str, pa.Array], findings: Findings, rules: Rules) -> None:
    identifiers(columns, findings, rules, "outcome_id", "post_id", "media_uri", "brand", "reviewer_id")
    revision(columns, findings, rules)
    times(columns, findings, "reviewed_at")
    one_of(columns, findings, "verdict", contracts.LOGO_VERDICTS)
    x1, y1, x2, y2 = (columns[name] for name in ("x1", "y1", "x2", "y2"))
    finite = np.logical_and.reduce([within(edge, 0.0, float(rules.bounds.max_media_pixels)) for edge in (x1, y1, x2, y2)])
    drawn = finite & flags(pc.less(x1, x2)) & flags(pc.less(y1, y2))
    findings.mark(~drawn, "box_invalid", "columns x1 y1 x2 y2: expected pixels with x1 < x2 and y1 < y2")


def _tombstones(columns: dict[str, pa.Array], findings: Findings, rules: Rules) -> None:
    times(columns, findings, "deleted_at")
    nobody = flags(pc.and_(pc.is_null(columns["post_id"]), pc.is_null(columns["author_id"])))
    findings.mark(nobody, "missing_required", "columns post_id and author_id are both empty")
    short_and_clean(columns, findings, rules, "post_id", "author_id")


_CHECKS: dict[str, Callable[[dict[str, pa.Array], Findings, Rules], None]] = {
    "tombstones": _tombstones,
    "posts": check_posts,
    "decisions": _decisions,
    "review_outcomes": _review_outcomes,
    "logo_outcomes": _logo_outcomes,
}
