"""The ledger's commit marker: a killed writer leaves nothing that a reader sees, and the next one carries on."""

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime

import pyarrow as pa
import pytest

from tests.feature_store.deliveries import AS_OF, ROOT, decision, deliver, outcome, post, rows, take
from upheld.common.errors import BadUse, FailedWork
from upheld.feature_store.contracts import tables as contracts
from upheld.feature_store.ledger import ledger

# An ingest that kills itself before its n-th write to a table (or before the commit marker, at "marker").
KILLED = """
import os, signal, sys
from datetime import datetime
from pathlib import Path
from upheld.common import files as atomic
from upheld.feature_store.ingest import expectations
from upheld.feature_store.ledger import ledger
from tests.feature_store.deliveries import take
delivery, store, as_of, when = sys.argv[1:]
expectations.judge = lambda *_: {"success": True, "checks": []}
writes = 0
def dying(write):
    def instead(*arguments):
        global writes
        writes += 1
        if str(writes) == when:
            os.kill(os.getpid(), signal.SIGKILL)
        return write(*arguments)
    return instead
ledger.Change.upsert = dying(ledger.Change.upsert)
ledger.Change.delete = dying(ledger.Change.delete)
if when in ("first marker", "marker"):
    skip = [when == "marker"]
    def write_marker(*arguments, write=ledger.write_marker):
        if not skip.pop() if skip else True:
            os.kill(os.getpid(), signal.SIGKILL)
        write(*arguments)
    ledger.write_marker = write_marker
take(delivery, Path(store), datetime.fromisoformat(as_of))
"""


def killed(delivery, store, when):
    command = [sys.executable, "-c", KILLED, delivery, str(store), AS_OF.isoformat(), when]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize("when", ["first marker", "1", "3", "marker"])
def test_killed_in_the_middle_and_run_again(tmp_path, without_expectations, when):
    rows_in = {
        "posts": [post(), post("p2"), post("p2", text="conflict")],
        "decisions": [decision(), decision("d2", post_id="p9")],
        "review_outcomes": [outcome(), outcome("o2", verdict="yes"), outcome(revision=1, verdict="escalate")],
    }
    delivery = deliver(tmp_path / "d", **rows_in)
    clean = take(delivery, tmp_path / "clean")
    killed(delivery, tmp_path / "store", when)
    if when != "first marker":
        assert all(ledger.Ledger(tmp_path / "store").read(table).num_rows == 0 for table in contracts.LEDGER)
    assert take(delivery, tmp_path / "store") == clean
    one, other = ledger.Ledger(tmp_path / "clean"), ledger.Ledger(tmp_path / "store")
    assert one.content_digest() == other.content_digest()
    for table in contracts.LEDGER:
        assert (
            one.read(table).sort_by(one.read(table).column_names[0]).equals(other.read(table).sort_by(one.read(table).column_names[0]))
        ), table
    assert not (tmp_path / "store" / "ledger" / ".scratch").exists()


def test_a_reader_of_an_older_version_sees_it_unchanged(tmp_path, without_expectations):
    take(deliver(tmp_path / "1", posts=[post()], review_outcomes=[outcome()]), tmp_path / "store")
    before = ledger.Ledger(tmp_path / "store")
    pinned, digest = before.versions, before.content_digest()
    gone = [{"post_id": "p1", "deleted_at": "2026-10-30T00:00:00Z"}]
    take(deliver(tmp_path / "2", tombstones=gone, posts=[post(text="other")], decisions=[decision()]), tmp_path / "store")
    after = ledger.Ledger(tmp_path / "store")
    assert after.read("posts").num_rows == 0
    assert after.read("posts", version=pinned["posts"])["text"].to_pylist() == ["text of p1"]
    assert after.content_digest(pinned) == digest != after.content_digest()


def test_one_writer_at_a_time(tmp_path):
    with ledger.writing(tmp_path), pytest.raises(FailedWork, match="another process"), ledger.writing(tmp_path):
        pass


def test_what_is_not_committed_is_undone(tmp_path):
    draw = {"draw_id": "w", "post_id": "p", "category": "spam", "language": "en", "zone": "none", "inclusion_prob": 0.5, "drawn_at": AS_OF}
    table = pa.Table.from_pylist([draw], contracts.AUDIT_DRAWS)
    ledger.record_draws(tmp_path, table)
    with ledger.writing(tmp_path) as change:
        change.delete("audit_draws", "draw_id", ["w"])
    assert rows(tmp_path, "audit_draws") == [draw]
    ledger.record_draws(tmp_path, pa.Table.from_pylist([draw | {"draw_id": "it's"}], contracts.AUDIT_DRAWS))
    assert sorted(row["draw_id"] for row in rows(tmp_path, "audit_draws")) == ["it's", "w"]


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda known: known.read("verdicts"), "no table 'verdicts'"),
        (lambda known: known.read("posts", version=99), "no version 99"),
    ],
)
def test_bad_use_of_the_ledger_names_what_is_wrong(tmp_path, call, told):
    with ledger.writing(tmp_path):
        pass
    with pytest.raises(BadUse, match=told):
        call(ledger.Ledger(tmp_path))


def test_no_ledger_is_bad_use(tmp_path):
    with pytest.raises(BadUse, match="upheld ingest"):
        ledger.Ledger(tmp_path)


def test_columns_and_conditions(tmp_path, without_expectations):
    take(deliver(tmp_path / "d", posts=[post("p1"), post("p2", language="de")]), tmp_path / "store")
    found = ledger.Ledger(tmp_path / "store").read(
        "posts", ["language", "post_id"], "created_at > timestamp '2026-01-01 00:00:00' AND language = 'de'"
    )
    assert found.to_pylist() == [{"language": "de", "post_id": "p2"}]


def test_the_watermark_is_the_latest_ingest_that_changed_something(tmp_path, without_expectations):
    store = tmp_path / "store"
    later, much_later = datetime(2026, 11, 9, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
    take(deliver(tmp_path / "1", posts=[post()]), store, later)
    take(deliver(tmp_path / "2", posts=[post("p2")]), store, AS_OF)
    assert ledger.Ledger(store).as_of == later
    take(str(tmp_path / "2"), store, much_later)
    assert ledger.Ledger(store).as_of == later
    assert [row["as_of"] for row in sorted(rows(store, "deliveries"), key=lambda row: row["as_of"])] == [AS_OF, later]
