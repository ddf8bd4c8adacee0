"""Digest of what a ledger states, whatever the order, times and files in which it learned it."""

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from upheld.feature_store.contracts import hashing

# The tables that make up the ledger's content, each with the columns that say what a row states.
_CONTENT = {
    "tombstones": ["row_digest"],
    "posts": ["row_digest"],
    "decisions": ["row_digest"],
    "review_outcomes": ["row_digest"],
    "logo_outcomes": ["row_digest"],
    "audit_draws": ["draw_id", "post_id", "category", "language", "zone", "inclusion_prob", "drawn_at"],
    "pending": ["row_digest", "reason"],
    "quarantine": ["row_digest", "reason"],
    "media": ["digest"],
    "refused_posts": ["post_id"],
}


def content_digest(read: Callable[[str, list[str]], pa.Table]) -> str:
    """Digest of a ledger's content.

    Args:
        read: gives the named columns of a table.
    """
    told = {table: read(table, columns) for table, columns in _CONTENT.items()}
    # A post that a tombstone names is refused anyway; whether its author was known when they were forgotten depends on the order.
    named = read("tombstones", ["post_id"])["post_id"]
    told["refused_posts"] = told["refused_posts"].filter(pc.invert(pc.is_in(told["refused_posts"]["post_id"], named.combine_chunks())))
    return hashing.of_json({table: _table_digest(rows) for table, rows in told.items()})


def _table_digest(rows: pa.Table) -> str:
    joined = pc.binary_join_element_wise(*[column.cast(pa.string()) for column in rows.columns], "\x1f")
    ordered = joined.combine_chunks().sort() if len(rows) else pa.array([], pa.string())
    return hashing.of_bytes("\n".join(ordered.to_pylist()).encode())
