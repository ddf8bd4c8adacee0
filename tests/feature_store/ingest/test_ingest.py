"""Deliveries into the ledger: formats, files that cannot be read, pending rows, corrections, tombstones, draws."""

import json
from datetime import UTC, datetime, timedelta

import fsspec
import pyarrow as pa
import pytest

from tests.feature_store.deliveries import AS_OF, decision, deliver, outcome, post, rows, take
from upheld.common.errors import BadUse
from upheld.feature_store.contracts import tables as contracts
from upheld.feature_store.ingest import command as ingest
from upheld.feature_store.ledger import ledger

pytestmark = pytest.mark.usefixtures("without_expectations")


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_every_format_brings_the_same_rows(tmp_path, suffix):
    posts = [post("p1", hashtags=["#a", "#b"]), post("p2", region="DE", text='=1+1, "quoted"\nsecond line')]
    one = deliver(tmp_path / "one", "jsonl", posts=posts, decisions=[decision()], review_outcomes=[outcome()])
    other = deliver(tmp_path / "other", suffix, posts=posts, decisions=[decision()], review_outcomes=[outcome()])
    take(one, tmp_path / "store")
    again = take(other, tmp_path / "store")
    assert [again["tables"][table]["duplicate"] for table in ("posts", "decisions", "review_outcomes")] == [2, 1, 1]


def test_accepted_rows_have_the_contract_and_say_when_they_were_true_and_learned(tmp_path):
    take(deliver(tmp_path / "d", posts=[post(media=[])], decisions=[decision()]), tmp_path / "store")
    known = ledger.Ledger(tmp_path / "store")
    for table in contracts.LEDGER:
        assert known.read(table).schema.equals(contracts.LEDGER[table])
    (row,) = rows(tmp_path / "store", "posts")
    assert row["valid_at"] == row["created_at"] == datetime(2026, 10, 26, 10, tzinfo=UTC)
    assert row["recorded_at"] == AS_OF
    assert (row["file"], row["row_number"]) == ("posts/part.jsonl", 0)
    assert known.as_of == AS_OF


def test_an_outcome_waits_for_its_post(tmp_path):
    first = take(deliver(tmp_path / "1", review_outcomes=[outcome()], decisions=[decision()]), tmp_path / "store")
    assert first["tables"]["review_outcomes"]["pending"] == 1
    assert {row["reason"] for row in rows(tmp_path / "store", "pending")} == {"unknown_post"}
    second = take(deliver(tmp_path / "2", posts=[post()]), tmp_path / "store", AS_OF + timedelta(days=1))
    assert second["changed"] == {"decisions": {"pending to accepted": 1}, "review_outcomes": {"pending to accepted": 1}}
    (row,) = rows(tmp_path / "store", "review_outcomes")
    assert (row["inclusion_prob"], row["recorded_at"], row["file"]) == (0.6, AS_OF, "review_outcomes/part.jsonl")
    assert not rows(tmp_path / "store", "pending")


def test_rows_of_one_delivery_that_conflict_keep_each_other_out_and_what_hangs_on_them_waits(tmp_path):
    posts = [post(), post(text="something else")]
    summary = take(deliver(tmp_path / "1", posts=posts, review_outcomes=[outcome()]), tmp_path / "store")
    assert summary["tables"]["posts"]["by_reason"] == {"duplicate_conflict": 2}
    assert summary["tables"]["review_outcomes"]["pending"] == 1
    held = rows(tmp_path / "store", "quarantine")
    assert sorted(json.loads(row["raw"])["text"] for row in held) == ["something else", "text of p1"]
    assert {(row["table"], row["key"], row["file"], row["row_number"]) for row in held} == {
        ("posts", "p1", "posts/part.jsonl", n) for n in (0, 1)
    }


def test_a_delivery_that_was_recorded_earlier_comes_first_even_where_it_is_taken_in_later(tmp_path):
    take(deliver(tmp_path / "1", posts=[post()], review_outcomes=[outcome()]), tmp_path / "store")
    before = AS_OF - timedelta(days=1)
    summary = take(deliver(tmp_path / "2", posts=[post(text="something else")]), tmp_path / "store", before)
    assert summary["tables"]["posts"]["accepted"] == 1
    assert summary["changed"] == {"posts": {"accepted to quarantined": 1}}
    (row,) = rows(tmp_path / "store", "posts")
    assert (row["text"], row["recorded_at"]) == ("something else", before)


def test_a_correction_has_a_higher_revision_and_both_stay(tmp_path):
    take(deliver(tmp_path / "1", posts=[post()], review_outcomes=[outcome(revision=1, verdict="escalate")]), tmp_path / "store")
    take(deliver(tmp_path / "2", review_outcomes=[outcome(revision=0)]), tmp_path / "store")
    assert sorted((row["revision"], row["verdict"]) for row in rows(tmp_path / "store", "review_outcomes")) == [
        (0, "restore"),
        (1, "escalate"),
    ]


def test_a_tombstone_takes_the_post_out_of_every_table_and_keeps_it_out(tmp_path, image):
    store = tmp_path / "store"
    spoken = {"decisions": [decision(), decision("d2", post_id="p9")], "review_outcomes": [outcome(), outcome("o2", verdict="yes")]}
    (tmp_path / "1" / "media").mkdir(parents=True)
    (tmp_path / "1" / "media" / "a.png").write_bytes(image)
    posts = [post(author_id="w", media=[{"kind": "image", "uri": "media/a.png"}]), post("p2"), post("p2", text="conflict")]
    take(deliver(tmp_path / "1", posts=posts, **spoken), store)
    assert len(rows(store, "media")) == 1
    summary = take(
        deliver(
            tmp_path / "2",
            tombstones=[{"author_id": "w", "deleted_at": "2026-10-30T00:00:00Z"}, {"post_id": "p9", "deleted_at": "2026-10-30T00:00:00Z"}],
        ),
        store,
    )
    assert summary["tables"]["tombstones"]["accepted"] == 2
    assert summary["changed"]["posts"] == {"accepted to refused": 1}
    again = take(deliver(tmp_path / "1", posts=posts[:1], **spoken), store)
    assert again["tables"]["posts"]["by_reason"] == {"tombstoned": 1}
    known = ledger.Ledger(store)
    for table in ("posts", "decisions", "review_outcomes", "pending", "media"):
        assert known.read(table).num_rows == 0, table
    assert {row["key"] for row in rows(store, "quarantine")} == {"p2"}


@pytest.fixture
def image() -> bytes:
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (4, 3), "red").save(buffer, "PNG")
    return buffer.getvalue()


def test_media_stay_while_another_post_refers_to_them(tmp_path, image):
    (tmp_path / "1" / "media").mkdir(parents=True)
    (tmp_path / "1" / "media" / "a.png").write_bytes(image)
    media = [{"kind": "image", "uri": "media/a.png"}]
    take(deliver(tmp_path / "1", posts=[post("p1", media=media), post("p2", media=media)]), tmp_path / "store")
    (kept,) = rows(tmp_path / "store", "media")
    assert (kept["width"], kept["height"], kept["format"], kept["bytes"]) == (4, 3, "PNG", image)
    known = ledger.Ledger(tmp_path / "store")
    assert dict(known.media_bytes([kept["digest"], "0" * 64])) == {kept["digest"]: image}
    for number, left in (("1", 1), ("2", 0)):
        gone = [{"post_id": f"p{number}", "deleted_at": "2026-10-30T00:00:00Z"}]
        take(deliver(tmp_path / f"gone{number}", tombstones=gone), tmp_path / "store")
        assert len(rows(tmp_path / "store", "media")) == left


def draws(**values):
    row = {
        "draw_id": "w1",
        "post_id": "p1",
        "category": "spam",
        "language": "en",
        "zone": "none",
        "inclusion_prob": 0.02,
        "drawn_at": AS_OF,
    }
    return pa.Table.from_pylist([row | values], contracts.AUDIT_DRAWS)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"inclusion_prob": 0.02}, None),
        ({"inclusion_prob": 0.2}, "inclusion_prob_disagrees"),
        ({"inclusion_prob": 0.02, "category": "hate_speech"}, "draw_mismatch"),
        ({"inclusion_prob": 0.2, "draw_id": "somebody else's"}, None),
        ({"inclusion_prob": 0.0005, "draw_id": None}, "inclusion_prob_too_small"),
    ],
)
def test_our_draws_are_the_authority_on_inclusion_probabilities(tmp_path, values, reason):
    ledger.record_draws(tmp_path / "store", draws())
    answer = outcome(draw_id="w1") | values
    summary = take(deliver(tmp_path / "d", posts=[post()], review_outcomes=[answer]), tmp_path / "store")
    assert summary["tables"]["review_outcomes"]["by_reason"] == ({} if reason is None else {reason: 1})


def test_a_draw_cannot_change(tmp_path):
    ledger.record_draws(tmp_path / "store", draws())
    before = ledger.Ledger(tmp_path / "store").versions
    ledger.record_draws(tmp_path / "store", draws())
    with pytest.raises(BadUse, match="w1"):
        ledger.record_draws(tmp_path / "store", draws(inclusion_prob=0.5))
    assert ledger.Ledger(tmp_path / "store").versions == before


def test_a_file_that_cannot_be_read_does_not_lose_the_others(tmp_path, capsys):
    delivery = deliver(tmp_path / "d", posts=[post()])
    (tmp_path / "d" / "decisions").mkdir()
    (tmp_path / "d" / "decisions" / "a.parquet").write_bytes(b"PAR1 no")
    (tmp_path / "d" / "decisions" / "b.xlsx").write_bytes(b"no")
    (tmp_path / "d" / "decisions" / "_SUCCESS").touch()
    code = ingest.main([delivery, "--store", str(tmp_path / "store"), "--as-of", AS_OF.isoformat(), "--summary", str(tmp_path / "s.json")])
    assert code == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "decisions/a.parquet: file_unreadable" in error and "2 of 3 files" in error
    files = json.loads((tmp_path / "s.json").read_text())["files"]
    assert [(file["path"], file["status"], file["reason"]) for file in files] == [
        ("posts/part.jsonl", "accepted", None),
        ("decisions/a.parquet", "rejected", "file_unreadable"),
        ("decisions/b.xlsx", "rejected", "unknown_format"),
    ]
    assert len(rows(tmp_path / "store", "posts")) == 1


def test_a_file_that_breaks_off_leaves_nothing_behind(tmp_path):
    lines = "decision_id,post_id,decided_at,category,score,action,model_version\nd1,p1,2026-10-26T10:00:01Z,spam,0.7,review,m\n"
    deliver(tmp_path / "d", posts=[post()])
    (tmp_path / "d" / "decisions").mkdir()
    (tmp_path / "d" / "decisions" / "a.csv").write_text(lines * 1 + 'd2,p1,"2026')
    summary = take(str(tmp_path / "d"), tmp_path / "store", AS_OF, "ingest.batch_rows=1")
    assert summary["files"][1]["reason"] == "file_unreadable"
    assert summary["tables"]["decisions"]["rows"] == 0
    assert not rows(tmp_path / "store", "decisions")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["{missing}"], "no such folder"),
        (["{empty}"], "no folder of any table"),
        (["{good}", "--as-of", "2026-11-02T00:00:00"], "no time zone"),
        (["{good}", "--as-of", "yesterday"], "ISO 8601"),
        (["{good}", "--as-of", "0001-01-01T00:00:00+14:00"], "ISO 8601"),
        (["{good}", "--as-of", "9999-12-31T23:59:59-14:00"], "ISO 8601"),
        (["{good}", "--set", "ingest.batch_rows=0"], "ingest.batch_rows"),
        (["nosuch://bucket/x"], "cannot be opened"),
        (["{good}", "--store", "/dev/null/store"], "cannot be made"),
        ([], "delivery"),
    ],
)
def test_bad_use_is_one_line_and_exit_code_2(tmp_path, capsys, arguments, told):
    (tmp_path / "empty").mkdir()
    places = {"missing": str(tmp_path / "no"), "empty": str(tmp_path / "empty"), "good": deliver(tmp_path / "good", posts=[post()])}
    code = ingest.main(["--store", str(tmp_path / "store"), *(argument.format(**places) for argument in arguments)])
    assert code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert told.lower() in lines[-1].lower()
    assert "Traceback" not in "".join(lines)


def test_a_delivery_may_lie_behind_any_fsspec_url(tmp_path, image):
    files = fsspec.filesystem("memory")
    files.pipe("/bucket/posts/a.jsonl", (json.dumps(post(media=[{"kind": "image", "uri": "media/a.png"}])) + "\n").encode())
    files.pipe("/bucket/media/a.png", image)
    files.pipe("/bucket/SYNTHETIC.json", b"{}")
    summary = take("memory://bucket", tmp_path / "store")
    assert summary["tables"]["posts"]["accepted"] == 1
    assert ledger.Ledger(tmp_path / "store").synthetic
    assert len(rows(tmp_path / "store", "media")) == 1


def test_small_batches_change_nothing(tmp_path):
    posts = [post(f"p{n}") for n in range(7)] + [post("p3"), post("p4", text="other"), post(None), post(None)]
    deliver(tmp_path / "d", "parquet", posts=posts)
    for name, batch_rows in (("one", 100), ("two", 2)):
        take(str(tmp_path / "d"), tmp_path / name, AS_OF, f"ingest.batch_rows={batch_rows}")
    one, two = (ledger.Ledger(tmp_path / name) for name in ("one", "two"))
    assert one.content_digest() == two.content_digest()
    assert one.read("quarantine").num_rows == 4


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("[1]", "line_unparsable"),
        ("{", "line_unparsable"),
        ("[" * 100_000, "line_unparsable"),
        ('{"post_id": 7, "created_at": "2026-10-26T10:00:00Z", "language": "en", "text": "x"}', "wrong_column_type"),
        ('{"post_id": "a\\u0000b", "created_at": "2026-10-26T10:00:00Z", "language": "en", "text": "x"}', "id_invalid"),
        ('{"post_id": "' + "a" * 300 + '", "created_at": "2026-10-26T10:00:00Z", "language": "en", "text": "x"}', "id_invalid"),
        ('{"post_id": "a", "created_at": 1761472800, "language": "en", "text": "x"}', "timestamp_unparsable"),
        ('{"post_id": "a", "created_at": "2026-10-26", "language": "en", "text": "x"}', "timestamp_naive"),
        ('{"post_id": "a", "created_at": "2026-10-26T10:00:00Z", "language": "en", "text": "x", "media": ["a.png"]}', "wrong_column_type"),
        ('{"post_id": "a", "created_at": "2026-10-26T10:00:00Z", "language": "en", "text": "x", "hashtags": "a"}', "wrong_column_type"),
        ('{"post_id": "a", "created_at": "2026-10-26T10:00:00Z", "language": "en"}', "empty_post"),
        ('{"post_id": "a", "created_at": "9999-12-31T23:59:59-12:00", "language": "en", "text": "x"}', "timestamp_unparsable"),
    ],
)
def test_odd_lines_are_quarantined_with_their_bytes(tmp_path, line, reason):
    (tmp_path / "d" / "posts").mkdir(parents=True)
    (tmp_path / "d" / "posts" / "a.jsonl").write_text(line + "\n" + json.dumps(post()) + "\n")
    summary = take(str(tmp_path / "d"), tmp_path / "store")
    assert summary["tables"]["posts"]["by_reason"] == {reason: 1}
    assert summary["tables"]["posts"]["accepted"] == 1
    (row,) = rows(tmp_path / "store", "quarantine")
    assert (row["raw"], row["row_number"], row["file"]) == (line, 0, "posts/a.jsonl")


def test_a_line_longer_than_memory_allows_is_cut(tmp_path):
    (tmp_path / "d" / "posts").mkdir(parents=True)
    (tmp_path / "d" / "posts" / "a.jsonl").write_text("x" * 5000 + "\n" + json.dumps(post()) + "\n")
    summary = take(str(tmp_path / "d"), tmp_path / "store", AS_OF, "ingest.max_row_bytes=1000")
    assert summary["tables"]["posts"]["by_reason"] == {"row_too_long": 1}
    assert summary["tables"]["posts"]["accepted"] == 1


def test_boxes_of_logos(tmp_path):
    box = {
        "outcome_id": "l1",
        "revision": 0,
        "post_id": "p1",
        "media_uri": "media/a.png",
        "brand": "b",
        "x1": 1,
        "y1": 2,
        "x2": 9,
        "y2": 9.5,
    }
    box |= {"verdict": "confirmed", "reviewer_id": "r", "reviewed_at": "2026-10-27T10:00:00Z"}
    boxes = [
        box,
        box | {"outcome_id": "l2", "x2": 1},
        box | {"outcome_id": "l3", "verdict": "restore"},
        box | {"outcome_id": "l4", "y1": "nan"},
    ]
    summary = take(deliver(tmp_path / "d", posts=[post()], logo_outcomes=boxes), tmp_path / "store")
    assert summary["tables"]["logo_outcomes"]["by_reason"] == {"box_invalid": 2, "unknown_verdict": 1}


def test_language_tags_are_written_one_way(tmp_path):
    tags = {"EN": "en", "zh-hant-tw": "zh-Hant-TW", "und": "und", "pt-br": "pt-BR", "es-419": "es-419"}
    take(deliver(tmp_path / "d", posts=[post(tag, language=tag) for tag in tags]), tmp_path / "store")
    assert {row["post_id"]: row["language"] for row in rows(tmp_path / "store", "posts")} == tags
