"""Readers without a ledger take what ingest takes, and refuse what it puts into quarantine, by file, row and column."""

import json

import pandas as pd
import pyarrow as pa
import pytest

from tests.feature_store.deliveries import decision, deliver, outcome, parameters, post, take
from upheld.common.errors import BadUse
from upheld.feature_store.contracts import tables
from upheld.feature_store.ingest import delivered

COLUMNS = ("decision_id", "post_id", "decided_at", "category", "score", "action")
ROWS = [decision(), decision(decision_id="d2", score=0.25, decided_at="2026-10-28T09:00:00+02:00")]


def read(path, columns=COLUMNS, table="decisions", **further) -> list[dict]:
    return pa.concat_tables(delivered.read(path, table, columns, parameters().ingest, **further)).to_pylist()


def write(path, rows):
    if path.suffix == ".parquet":
        pd.DataFrame(rows).to_parquet(path)
    elif path.suffix == ".csv":
        pd.DataFrame(rows).to_csv(path, index=False)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_every_format_gives_the_contracts_types_and_the_same_rows(tmp_path, suffix) -> None:
    found = list(delivered.read(write(tmp_path / f"a.{suffix}", ROWS), "decisions", COLUMNS, parameters().ingest))
    assert found[0].schema.field("decided_at").type == tables.TIMESTAMP
    values = pa.concat_tables(found).to_pylist()
    assert [row["score"] for row in values] == [row["score"] for row in ROWS]
    assert values[1]["decided_at"] == pd.Timestamp("2026-10-28T07:00:00Z")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"score": 1.5}, "row 2, column score: found '1.5', expected a number from 0 to 1"),
        ({"score": "high"}, "row 2, column score: found 'high', expected double"),
        ({"action": "delete"}, "row 2, column action: found 'delete', expected auto_remove / review / none"),
        ({"decided_at": "2026-10-28T09:00:00"}, r"row 2, column decided_at: .*timestamp_naive"),
        ({"post_id": ""}, "row 2, column post_id: found '', expected a value"),
        ({"category": None}, "row 2, column category: found 'None', expected a value"),
    ],
)
def test_what_ingest_quarantines_is_refused_here_by_row_and_column(tmp_path, change, expected) -> None:
    rows = [decision(), decision(decision_id="d2") | change]
    took = take(deliver(tmp_path / "in", posts=[post()], decisions=rows), tmp_path / "store")
    assert took["tables"]["decisions"]["quarantined"] == 1
    with pytest.raises(BadUse, match=expected):
        read(write(tmp_path / "a.jsonl", rows))


def test_a_probability_smaller_than_ingest_allows_is_refused(tmp_path) -> None:
    rows = [outcome(inclusion_prob=0.0001)]
    with pytest.raises(BadUse, match=r"inclusion_prob: found '0.0001', expected a number from 0.001 to 1"):
        read(write(tmp_path / "a.jsonl", rows), ("outcome_id", "inclusion_prob"), "review_outcomes")


def test_optional_and_further_columns_may_be_absent_and_others_may_not(tmp_path) -> None:
    file = write(tmp_path / "a.csv", [{"post_id": "p1", "created_at": "2026-10-28T09:00:00Z", "language": "en", "text": "hello"}])
    assert read(file, ("post_id", "region"), "posts", also=("mood",)) == [{"post_id": "p1", "region": None, "mood": None}]
    with pytest.raises(BadUse, match=r"a\.csv: no column 'score'; expected a table of decisions, it has post_id, created_at"):
        read(file, ("post_id", "score"))


def test_a_folder_holds_files_of_the_three_formats_and_nothing_else(tmp_path) -> None:
    (tmp_path / "deep").mkdir()
    write(tmp_path / "a.parquet", ROWS[:1])
    write(tmp_path / "deep" / "b.csv", ROWS[1:])
    (tmp_path / "_SUCCESS").write_text("")
    assert len(read(tmp_path)) == 2
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(BadUse, match=r"notes\.txt: expected a table of decisions as \.parquet, \.jsonl, \.csv"):
        read(tmp_path)
    with pytest.raises(BadUse, match="no such file or folder"):
        read(tmp_path / "absent")


@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.jsonl"])
def test_bytes_of_another_format_are_one_line(tmp_path, name) -> None:
    (tmp_path / name).write_bytes(b"\x00\xff\x00garbage\n" * 3)
    with pytest.raises(BadUse, match=name) as error:
        read(tmp_path / name)
    assert "\n" not in str(error.value)
