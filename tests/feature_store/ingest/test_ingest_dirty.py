"""The delivery with known defects: every one of them lands where its list says."""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.feature_store.deliveries import parameters
from upheld.feature_store.ingest import command as ingest
from upheld.feature_store.ledger import ledger

AS_OF = datetime(2026, 11, 2, tzinfo=UTC)
TABLES = ("posts", "decisions", "review_outcomes")
pytestmark = pytest.mark.usefixtures("without_expectations_here")


@pytest.fixture(scope="module")
def without_expectations_here():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("upheld.feature_store.ingest.expectations.judge", lambda *_: {"success": True, "checks": []})
        yield


@pytest.fixture(scope="module")
def dirty(shared_data):
    folder = shared_data / "stream_dirty"
    if not folder.is_dir():
        pytest.skip(f"needs {folder}")
    return folder


@pytest.fixture(scope="module")
def taken(dirty, tmp_path_factory, without_expectations_here):
    store = tmp_path_factory.mktemp("dirty")
    return store, ingest.run(parameters(), str(dirty), store, AS_OF)


@pytest.fixture(scope="module")
def fate(taken):
    """(table, row number) -> what became of it, read from the ledger."""
    known = ledger.Ledger(taken[0])
    found = {}
    for table in TABLES:
        found |= dict.fromkeys(((table, n) for n in known.read(table, ["row_number"])["row_number"].to_pylist()), "accept")
    for held in ("pending", "quarantine"):
        columns = known.read(held, ["table", "row_number", "reason"]).to_pylist()
        found |= {(row["table"], row["row_number"]): row["reason"] for row in columns}
    return found


def test_totals(taken, dirty):
    expected = json.loads((dirty / "expected.json").read_text())["expected_counts"]
    for table in TABLES:
        counts = taken[1]["tables"][table]
        assert counts["rows"] == expected[table]["rows"]
        assert counts["accepted"] == expected[table]["accepted"]
        assert counts["duplicate"] == expected[table]["dropped_identical_duplicates"]
        assert counts["pending"] == expected[table].get("pending", 0)
        assert counts["by_reason"] == expected[table]["quarantined_by_reason"]


def test_every_defect_is_handled_as_listed(fate, dirty):
    for defect in json.loads((dirty / "expected.json").read_text())["defects"]:
        if defect["table"] not in TABLES:
            continue
        found = [fate.get((defect["table"], n), "dropped") for n in defect["row_numbers"]]
        if defect["handling"] == "drop_duplicate":
            assert sorted(found) == ["accept"] * (len(found) // 2) + ["dropped"] * (len(found) // 2), defect["kind"]
        else:
            assert set(found) == {"accept" if defect["handling"] == "accept" else defect["reason"]}, defect["kind"]


def test_rows_without_a_defect_are_accepted(fate, taken, dirty):
    listed = {
        (defect["table"], n) for defect in json.loads((dirty / "expected.json").read_text())["defects"] for n in defect["row_numbers"]
    }
    others = {(table, n) for table in TABLES for n in range(taken[1]["tables"][table]["rows"])} - listed
    assert {fate.get(position) for position in others} == {"accept"}


def test_control_characters_leave_the_text_and_nothing_else_does(taken, dirty):
    defects = {defect["kind"]: defect["keys"] for defect in json.loads((dirty / "expected.json").read_text())["defects"]}
    texts = dict(ledger.Ledger(taken[0]).read("posts", ["post_id", "text"]).to_pandas().itertuples(index=False))
    assert {texts[key][:11] for key in defects["text_nul"]} == {"beforeafter"}
    assert any("\u202e" in texts[key] for key in defects["text_rtl_override"])
    assert all(len(texts[key].encode()) >= 1_000_000 for key in defects["text_1mb"])


def test_the_same_again_changes_nothing(taken, dirty):
    store, first = taken
    before = ledger.Ledger(store)
    again = ingest.run(parameters(), str(dirty), store, AS_OF)
    for table in TABLES:
        assert again["tables"][table]["duplicate"] == first["tables"][table]["rows"]
    after = ledger.Ledger(store)
    assert after.versions == before.versions
    assert after.commit == before.commit


ALTERNATIVES = {
    "alt_csv": ("review_outcomes", "accepted", None, {"timestamp_unparsable": 6, "timestamp_naive": 5}),
    "alt_jsonl": ("posts", "accepted", None, {"invalid_unicode": 3, "line_unparsable": 1}),
    "alt_wrong_type": ("decisions", "accepted", None, {}),
    "alt_wrong_type_uncastable": ("decisions", "accepted", None, {"wrong_column_type": 2}),
    "alt_missing_column": ("decisions", "rejected", "missing_column", {}),
    "alt_extra_column": ("posts", "accepted", "extra_column", {}),
    "alt_naive_timestamps": ("posts", "rejected", "timestamp_naive", {}),
    "alt_null_media": ("posts", "accepted", None, {}),
    "alt_invalid_utf8": ("posts", "accepted", None, {"invalid_unicode": 1}),
    "alt_truncated": ("posts", "rejected", "file_unreadable", {}),
    "alt_empty": ("posts", "accepted", None, {}),
}


@pytest.mark.parametrize("name", ALTERNATIVES)
def test_the_same_week_in_another_shape(name, dirty, tmp_path):
    table, status, reason, by_reason = ALTERNATIVES[name]
    delivery = tmp_path / "delivery"
    delivery.mkdir()
    for folder in (dirty / name).iterdir():
        shutil.copytree(folder, delivery / folder.name)
    shutil.copytree(dirty / "media", delivery / "media", dirs_exist_ok=True)
    summary = ingest.run(parameters(), str(delivery), tmp_path / "store", AS_OF)
    (file,) = [file for file in summary["files"] if file["path"].startswith(table)]
    assert (file["status"], file["reason"]) == (status, reason)
    found = summary["tables"][table]["by_reason"]
    assert {why: found.get(why, 0) for why in by_reason} == by_reason


@pytest.mark.parametrize("name", ["alt_csv", "alt_jsonl"])
def test_outcomes_in_another_format_are_the_same_rows(name, dirty, tmp_path):
    """Posts first, then the outcomes as text: counts as listed; then the Parquet brings no outcome that was not known."""
    store = tmp_path / "store"
    posts, text, columns = (tmp_path / part for part in ("posts", "text", "columns"))
    shutil.copytree(dirty / "posts", posts / "posts")
    shutil.copytree(dirty / "media", posts / "media")
    shutil.copytree(dirty / name / "review_outcomes", text / "review_outcomes")
    shutil.copytree(dirty / "review_outcomes", columns / "review_outcomes")
    ingest.run(parameters(), str(posts), store, AS_OF)
    expected = json.loads((dirty / "expected.json").read_text())["expected_counts"]["review_outcomes (JSONL, CSV)"]
    counts = ingest.run(parameters(), str(text), store, AS_OF)["tables"]["review_outcomes"]
    assert (counts["rows"], counts["accepted"], counts["pending"]) == (expected["rows"], expected["accepted"], expected["pending"])
    assert counts["by_reason"] == expected["quarantined_by_reason"]
    known = ledger.Ledger(store).read("review_outcomes").num_rows
    again = ingest.run(parameters(), str(columns), store, AS_OF)["tables"]["review_outcomes"]
    assert (again["accepted"], again["pending"]) == (0, 0)
    assert ledger.Ledger(store).read("review_outcomes").num_rows == known == expected["accepted"]


def test_the_real_stream_is_accounted_for(shared_data, tmp_path):
    """Three of its weeks; the numbers are those of its README."""
    delivery = tmp_path / "delivery"
    for table in TABLES:
        (delivery / table).mkdir(parents=True)
        for week in ("01", "02", "03"):
            shutil.copy(shared_data / "stream" / table / f"week={week}.parquet", delivery / table)
    (delivery / "media").symlink_to(shared_data / "stream" / "media")
    outside = ingest.run(parameters(), str(delivery), tmp_path / "linked", AS_OF)["tables"]["posts"]
    assert set(outside["by_reason"]) == {"media_path_unsafe"}  # a linked folder is no part of the delivery
    (delivery / "media").unlink()
    shutil.copytree(Path(shared_data / "stream" / "media"), delivery / "media")
    tables = ingest.run(parameters(), str(delivery), tmp_path / "store", AS_OF)["tables"]
    assert tables["posts"]["accepted"] == 6568 + 6456 + 6688
    assert all(counts["accepted"] + counts["pending"] == counts["rows"] for counts in tables.values())
