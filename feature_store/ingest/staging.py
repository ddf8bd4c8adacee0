"""First pass over a delivery: every row judged by its contract and put on disk; in memory stays a narrow index of them."""

import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from upheld.feature_store.contracts import tables as contracts
from upheld.feature_store.decoding.contract import Refused
from upheld.feature_store.ingest.delivery import DeliveredFile, Delivery, MediaFile, Pair, check_all, read_batches
from upheld.feature_store.ingest.readers import BrokenRow, FileRejected, RawBatch
from upheld.feature_store.ingest.row_checks import Findings, Rules, check, lists_of
from upheld.feature_store.sandbox.pool import DecodePool

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


# What is kept in memory of every well-formed row: enough to judge it against others.
INDEX = pa.schema(
    [
        ("row_digest", pa.string()),
        ("key", pa.string()),
        ("revision", pa.int64()),
        ("post_id", pa.string()),
        ("author_id", pa.string()),
        ("valid_at", contracts.TIMESTAMP),
        ("category", pa.string()),
        ("reviewer_id", pa.string()),
        ("source", pa.string()),
        ("draw_id", pa.string()),
        ("inclusion_prob", pa.float64()),
    ]
)
_POSITION = (pa.field("file", pa.string()), pa.field("row_number", pa.int64()), pa.field("row_digest", pa.string()))
# … and what lies on disk of every other row; in memory, the same without `raw`.
_BAD = pa.schema([field for field in contracts.QUARANTINE if field.name not in ("recorded_at", "delivery")])


@dataclass(frozen=True)
class StagedFile:
    """What became of one delivered file.

    Attributes:
        file: which one.
        status: `accepted` or `rejected`.
        reason: code of why it was rejected, or of what was odd about it; None if nothing.
        detail: the same for people; "" if nothing.
        index: columns `INDEX` of its well-formed rows, in the order in which they lie on disk.
        bad: columns `_BAD` without `raw` of the rows that broke their contract, in the order in which they lie on disk.
        rows_path, bad_path: Arrow files with those rows in full.
    """

    file: DeliveredFile
    status: str
    reason: str | None
    detail: str
    index: pa.Table
    bad: pa.Table
    rows_path: Path
    bad_path: Path


def staged_schema(table: str) -> pa.Schema:
    """Columns of the well-formed rows on disk: the contract's, as the ledger has them, and the position."""
    return pa.schema([contracts.LEDGER[table].field(name) for name in contracts.DELIVERED[table].schema.names] + list(_POSITION))


class Staging:
    """Scratch of one ingest.

    Args:
        delivery: what is read.
        rules: policies and bounds.
        folder: empty folder for the rows on disk.
        decoders: for images.
    """

    def __init__(self, delivery: Delivery, rules: Rules, folder: Path, decoders: DecodePool) -> None:
        self._delivery = delivery
        self._rules = rules
        self._folder = folder
        self._decoders = decoders
        self._seen_bad: Counter[str] = Counter()
        self._media: dict[Pair, str | Refused] = {}
        self._media_paths: list[Path] = []
        self._numbers = itertools.count()

    def stage(self, file: DeliveredFile, advance: Callable[[int], None]) -> StagedFile:
        """Read one file: its rows, or why it was rejected; a rejected file leaves nothing behind. `advance` hears each batch's length."""
        paths = [self._folder / f"{next(self._numbers)}-{kind}.arrow" for kind in ("rows", "bad")]
        seen_before = self._seen_bad.copy()
        try:
            index, bad, odd = self._write(file, paths[0], paths[1], advance)
        except (FileRejected, MemoryError) as error:
            self._seen_bad = seen_before
            nothing = INDEX.empty_table(), _BAD.empty_table().drop_columns("raw")
            reason = error.reason if isinstance(error, FileRejected) else "file_too_large"
            return StagedFile(file, "rejected", reason, str(error), *nothing, *paths)
        return StagedFile(file, "accepted", "extra_column" if odd else None, ", ".join(sorted(odd)), index, bad, *paths)

    def media(self) -> Iterator[pa.RecordBatch]:
        """Every file of media that was read, each once, as columns of `contracts.MEDIA_FILES`."""
        for path in self._media_paths:
            yield from read_staged(path)

    def _write(
        self, file: DeliveredFile, rows_path: Path, bad_path: Path, advance: Callable[[int], None]
    ) -> tuple[pa.Table, pa.Table, set[str]]:
        index, bad = [INDEX.empty_table()], [_BAD.empty_table().drop_columns("raw")]
        odd: set[str] = set()
        with ExitStack() as stack:
            rows_file = stack.enter_context(pa.ipc.new_file(str(rows_path), staged_schema(file.table)))
            bad_file = stack.enter_context(pa.ipc.new_file(str(bad_path), _BAD))
            for batch in read_batches(self._delivery, file, self._rules.bounds):
                odd |= batch.columns.keys() - contracts.DELIVERED[file.table].schema.names  # they are left out
                good_rows, bad_rows = self._judge(file, batch)
                rows_file.write_table(good_rows)
                bad_file.write_table(bad_rows)
                index.append(index_of(file.table, good_rows))
                bad.append(bad_rows.drop_columns("raw"))
                advance(len(batch.row_numbers) + len(batch.broken))
        return pa.concat_tables(index), pa.concat_tables(bad), odd

    def _judge(self, file: DeliveredFile, batch: RawBatch) -> tuple[pa.Table, pa.Table]:
        rows, findings = check(file.table, batch, self._rules)
        if file.table == "posts":
            rows = self._with_media(rows, findings)
        good = pa.array(findings.good)
        kept = rows.filter(good)
        position = [
            pa.array([file.path] * len(kept), pa.string()),
            pa.array(batch.row_numbers, pa.int64()).filter(good),
            row_digests(file.table, kept),
        ]
        full = pa.Table.from_arrays([*kept.columns, *position], schema=staged_schema(file.table))
        return full, self._bad_rows(file, batch, rows, findings)

    def _bad_rows(self, file: DeliveredFile, batch: RawBatch, rows: pa.Table, findings: Findings) -> pa.Table:
        key = contracts.DELIVERED[file.table].key
        at = np.flatnonzero(~findings.good)
        known = rows.select([name for name in (key, "revision", "post_id", "author_id") if name in rows.column_names]).take(at).to_pylist()
        records = [self._broken_record(file, broken) for broken in batch.broken]
        for index, ids in zip(at.tolist(), known, strict=True):
            broken = BrokenRow(batch.row_numbers[index], findings.reasons[index], findings.details[index], batch.raw(index))
            records.append(
                self._broken_record(file, broken)
                | {"key": ids.get(key)}
                | {name: ids.get(name) for name in ("revision", "post_id", "author_id")}
            )
        return pa.Table.from_pylist(records, schema=_BAD)

    def _broken_record(self, file: DeliveredFile, broken: BrokenRow) -> dict[str, Any]:
        content = short_digest(f"{file.table}\n{broken.raw}".encode("utf-8", "backslashreplace"))
        nth = self._seen_bad[content]  # the same bad row twice is two bad rows; delivered again, it is those two
        self._seen_bad[content] += 1
        return {
            "table": file.table,
            "file": file.path,
            "row_number": broken.row_number,
            "reason": broken.reason,
            "detail": broken.detail,
            "raw": broken.raw,
            "well_formed": False,
            "row_digest": short_digest(f"{content}#{nth}".encode()),
        }

    def _with_media(self, rows: pa.Table, findings: Findings) -> pa.Table:
        """Look at the media of posts that are good so far; rows get the digests, and are marked where a file is refused."""
        media = rows["media"].combine_chunks()
        owners = pc.list_parent_indices(media).to_numpy(zero_copy_only=False)
        flat = pc.list_flatten(media).to_pylist()
        pairs = [(item["kind"], item["uri"]) for item in flat]
        good = findings.good
        self._check_media(dict.fromkeys(pair for pair, owner in zip(pairs, owners, strict=True) if good[owner]))
        digests: list[str | None] = []
        for pair, owner in zip(pairs, owners, strict=True):
            found = self._media.get(pair) if good[owner] else None
            digests.append(found if isinstance(found, str) else None)
            if isinstance(found, Refused):
                findings.mark_one(owner, found.reason, f"media: {found.detail}")
        struct = pa.StructArray.from_arrays(
            [pc.struct_field(pc.list_flatten(media), name) for name in ("kind", "uri")] + [pa.array(digests, pa.string())],
            fields=[contracts.LEDGER_MEDIA.field(index) for index in range(3)],
        )
        column = rows.column_names.index("media")
        return rows.set_column(column, "media", pa.ListArray.from_arrays(media.offsets, struct, pa.list_(contracts.LEDGER_MEDIA)))

    def _check_media(self, pairs: dict[Pair, None]) -> None:
        unseen = [pair for pair in pairs if pair not in self._media]
        if not unseen:
            return
        path = self._folder / f"{next(self._numbers)}-media.arrow"
        written = {found for found in self._media.values() if isinstance(found, str)}
        with pa.ipc.new_file(str(path), contracts.MEDIA_FILES) as file:
            for pair, found in check_all(self._delivery, unseen, self._rules.bounds, self._decoders):
                self._media[pair] = found if isinstance(found, Refused) else found.digest
                if isinstance(found, MediaFile) and found.digest not in written:
                    written.add(found.digest)
                    row = {name: getattr(found, name) for name in ("digest", "kind", "format", "width", "height")}
                    row |= {"num_bytes": len(found.content), "bytes": found.content}
                    file.write_batch(pa.RecordBatch.from_pylist([row], schema=contracts.MEDIA_FILES))
        self._media_paths.append(path)


def index_of(table: str, rows: pa.Table) -> pa.Table:
    """Columns `INDEX` of well-formed rows, as they are delivered or as the ledger has them; null where their table has no such column."""
    contract = contracts.DELIVERED[table]
    source = {"key": contract.key} if "valid_at" in rows.column_names else {"key": contract.key, "valid_at": contract.time}
    columns = []
    for field in INDEX:
        name = source.get(field.name, field.name)
        absent = pa.array(np.zeros(len(rows), np.int64)) if field.name == "revision" else pa.nulls(len(rows), field.type)
        columns.append(rows[name].cast(field.type) if name in rows.column_names else pa.chunked_array([absent]))
    return pa.Table.from_arrays(columns, schema=INDEX)


def read_staged(path: Path) -> Iterator[pa.RecordBatch]:
    """Batches of an Arrow file of the staging, in the order in which they were written."""
    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source)
        for number in range(reader.num_record_batches):
            yield reader.get_batch(number)
