"""Digests of single rows: what tells a repeated row from a conflicting one, in whatever format either came."""

import hashlib

import pyarrow as pa
import pyarrow.compute as pc

from upheld.feature_store.ingest.findings import lists_of
from upheld.feature_store.ledger import tables as contracts

# Control characters cannot occur in converted columns, so they separate values without ambiguity.
_BETWEEN, _ITEM, _PART, _NULL = "\x1f", "\x1e", "\x1d", "\x00"


def row_digests(table: str, rows: pa.Table) -> pa.Array:
    """Digest of each row's content.

    Args:
        table: a key of `contracts.DELIVERED`.
        rows: N well-formed rows with the contract's columns; media with digests.

    Returns:
        string (N,): BLAKE2b of 128 bits, hexadecimal. Equal rows have equal digests, from whatever file format they came.
    """
    parts = [_as_text(rows[name].combine_chunks()) for name in contracts.DELIVERED[table].schema.names]
    joined = pc.binary_join_element_wise(table, *parts, _BETWEEN, null_handling="replace", null_replacement=_NULL)
    return pa.array([short_digest(content) for content in joined.cast(pa.binary()).to_pylist()], pa.string())


def short_digest(content: bytes) -> str:
    """BLAKE2b of 128 bits, hexadecimal: enough to tell rows apart, half of a SHA-256."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _as_text(values: pa.Array) -> pa.Array:
    if pa.types.is_list(values.type):
        flat = pc.list_flatten(values)
        if pa.types.is_struct(flat.type):
            parts = [pc.struct_field(flat, index) for index in range(flat.type.num_fields)]
            flat = pc.binary_join_element_wise(*parts, _PART)
        owners = pc.list_parent_indices(values).to_numpy(zero_copy_only=False)
        return pc.binary_join(lists_of(flat, owners, len(values)), _ITEM)
    if pa.types.is_timestamp(values.type):
        values = values.cast(pa.int64())
    return values.cast(pa.string())
