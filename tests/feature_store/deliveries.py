"""Small deliveries for tests: rows as dictionaries, written in any of the three formats."""

import csv
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from upheld.common.params import params
from upheld.feature_store.contracts import tables as contracts
from upheld.feature_store.ingest import command as ingest
from upheld.feature_store.ledger import ledger

Row = dict[str, Any]
AS_OF = datetime(2026, 11, 2, tzinfo=UTC)
ROOT = Path(__file__).resolve().parents[2]


@cache  # frozen, and reading the file takes longer than judging a small delivery
def parameters(*overrides: str) -> params.Params:
    return params.load(ROOT / "params.yaml", list(overrides))


def post(post_id: str = "p1", **values: Any) -> Row:
    return {"post_id": post_id, "created_at": "2026-10-26T10:00:00Z", "language": "en", "text": f"text of {post_id}"} | values


def decision(decision_id: str = "d1", **values: Any) -> Row:
    return {
        "decision_id": decision_id,
        "post_id": "p1",
        "decided_at": "2026-10-26T10:00:01Z",
        "category": "spam",
        "score": 0.75,
        "action": "review",
        "model_version": "m-1",
    } | values


def outcome(outcome_id: str = "o1", **values: Any) -> Row:
    return {
        "outcome_id": outcome_id,
        "revision": 0,
        "post_id": "p1",
        "category": "spam",
        "verdict": "restore",
        "reviewer_id": "r1",
        "reviewed_at": "2026-10-27T10:00:00Z",
        "source": "queue",
        "inclusion_prob": 0.6,
    } | values


def deliver(folder: Path, suffix: str = "jsonl", **tables: Sequence[Mapping[str, Any]]) -> str:
    """Write a delivery; returns its path."""
    for table, rows in tables.items():
        path = folder / table / f"part.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        _WRITERS[suffix](path, table, rows)
    return str(folder)


def _jsonl(path: Path, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _csv(path: Path, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        for row in rows:
            writer.writerow({name: json.dumps(value) if isinstance(value, list) else value for name, value in row.items()})


def _parquet(path: Path, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    fields = [contracts.DELIVERED[table].schema.field(name).with_nullable(True) for name in names]
    typed = [{name: _timestamp(row.get(name), field.type) for name, field in zip(names, fields, strict=True)} for row in rows]
    pq.write_table(pa.Table.from_pylist(typed, pa.schema(fields)), path)


def _timestamp(value: Any, kind: pa.DataType) -> Any:
    return datetime.fromisoformat(value) if isinstance(value, str) and pa.types.is_timestamp(kind) else value


_WRITERS = {"jsonl": _jsonl, "csv": _csv, "parquet": _parquet}


def take(delivery: str, store: Path, as_of: datetime = AS_OF, *overrides: str) -> dict[str, Any]:
    """Ingest; every table's rows must be accounted for."""
    summary = ingest.run(parameters(*overrides), delivery, store, as_of)
    for counts in summary["tables"].values():
        assert counts["rows"] == counts["accepted"] + counts["duplicate"] + counts["pending"] + counts["quarantined"]
        assert counts["quarantined"] == sum(counts["by_reason"].values())
    return summary


def rows(store: Path, table: str) -> list[Row]:
    return ledger.Ledger(store).read(table).to_pylist()
