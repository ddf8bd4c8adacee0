"""Row contracts over every type in which a column may come, and the digests that tell rows apart."""

from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.feature_store.deliveries import outcome, parameters
from upheld.feature_store.contracts import tables as contracts
from upheld.feature_store.ingest.readers import FileRejected, RawBatch
from upheld.feature_store.ingest.row_checks import Rules, check
from upheld.feature_store.ingest.staging import row_digests

MOMENT = datetime(2026, 10, 27, 10, tzinfo=UTC)


def judged(table, columns):
    num_rows = len(next(iter(columns.values())))
    batch = RawBatch(columns, list(range(num_rows)), str, header=True)
    found, findings = check(table, batch, Rules(parameters().policies, parameters().ingest))
    return found, findings.reasons.tolist()


def outcomes(**columns):
    num_rows = len(next(iter(columns.values())))
    usual = {name: pa.array([value] * num_rows) for name, value in outcome(reviewed_at=MOMENT).items()}
    return judged("review_outcomes", usual | columns)


TEXTS = [
    pa.array(["spam"], pa.string()),
    pa.array(["spam"], pa.large_string()),
    pa.array(["spam"], pa.string_view()),
    pa.array(["spam"], pa.binary()),
    pa.array(["spam"]).dictionary_encode(),
    ["spam"],
]


@pytest.mark.parametrize("column", TEXTS, ids=lambda column: str(getattr(column, "type", "list")))
def test_text_comes_in_many_types(column):
    found, reasons = outcomes(category=column)
    assert (found["category"].to_pylist(), reasons) == (["spam"], [None])


NUMBERS = [
    pa.array([0.5], pa.float32()),
    pa.array([0.5], pa.float64()),
    pa.array([np.float16(0.5)]),
    pa.array([Decimal("0.5")]),
    pa.array(["0.5"]),
    pa.array(["5e-1"]),
    [0.5],
    ["0.5"],
]


@pytest.mark.parametrize("column", NUMBERS, ids=lambda column: str(getattr(column, "type", "list")))
def test_numbers_come_in_many_types(column):
    found, reasons = outcomes(inclusion_prob=column)
    assert (found["inclusion_prob"].to_pylist(), reasons) == ([0.5], [None])


@pytest.mark.parametrize("column", [pa.array([3], pa.uint8()), pa.array([3.0]), pa.array(["3"]), [3], [3.0], ["3"]], ids=str)
def test_whole_numbers_come_in_many_types(column):
    found, reasons = outcomes(revision=column)
    assert (found["revision"].to_pylist(), reasons) == ([3], [None])


TIMES = [
    *(pa.array([MOMENT], pa.timestamp(unit, tz="UTC")) for unit in ("s", "ms", "us", "ns")),
    pa.array([MOMENT], pa.timestamp("us", tz="Asia/Bangkok")),
    pa.array(["2026-10-27T10:00:00Z"]),
    ["2026-10-27T17:00:00+07:00"],
    ["2026-10-27 10:00:00.000000000Z"],
    ["2026-10-27T10:00Z"],
]


@pytest.mark.parametrize("column", TIMES, ids=str)
def test_times_come_in_many_types(column):
    found, reasons = outcomes(reviewed_at=column)
    assert (found["reviewed_at"].to_pylist(), reasons) == ([MOMENT], [None])


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"category": pa.array([1])}, "wrong_column_type"),
        ({"category": pa.array([["spam"]])}, "wrong_column_type"),
        ({"inclusion_prob": pa.array([True])}, "wrong_column_type"),
        ({"inclusion_prob": pa.array([MOMENT])}, "wrong_column_type"),
        ({"revision": pa.array([False])}, "wrong_column_type"),
        ({"reviewed_at": pa.array([1761559200])}, "wrong_column_type"),
        ({"reviewed_at": pa.array([MOMENT.date()])}, "wrong_column_type"),
        ({"reviewed_at": pa.array([MOMENT.replace(tzinfo=None)], pa.timestamp("us"))}, "timestamp_naive"),
    ],
)
def test_a_column_whose_type_cannot_be_meant_rejects_the_file(columns, reason):
    with pytest.raises(FileRejected, match=next(iter(columns))) as caught:
        outcomes(**columns)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("columns", "reasons"),
    [
        ({"revision": pa.array([0.5, 1.0, None])}, ["wrong_column_type", None, "missing_required"]),
        ({"revision": pa.array([2**63, 0], pa.uint64())}, ["wrong_column_type", None]),
        ({"revision": [True, -1, 2**70]}, ["wrong_column_type", "revision_invalid", "wrong_column_type"]),
        ({"inclusion_prob": ["0,5", "1_0", "", None, "1"]}, ["wrong_column_type"] * 3 + ["inclusion_prob_out_of_range", None]),
        ({"reviewed_at": pa.array([2**62], pa.timestamp("s", tz="UTC"))}, ["timestamp_unparsable"]),
        ({"reviewed_at": pa.array([-(2**62)], pa.timestamp("us", tz="UTC"))}, ["timestamp_unparsable"]),
        ({"reviewed_at": pa.nulls(2)}, ["timestamp_unparsable"] * 2),
        (
            {"post_id": ["a", "", None, "a\x9bb", "\ud800", 7]},
            [None, "missing_required", "missing_required", "id_invalid", "invalid_unicode", "wrong_column_type"],
        ),
        (  # the same reviewer to the eye
            {
                "reviewer_id": [
                    "rv 1",
                    "rv\u00a01",
                    "rv\u200b 1",
                    " rv 1",
                    "\uff52v 1",
                    "rv  1",
                    "\u0440\u0435\u0432\u044c\u044e\u0435\u0440",
                    None,
                ]
            },
            [None, *["id_invalid"] * 5, None, "missing_required"],
        ),
    ],
)
def test_a_value_that_does_not_fit_is_the_rows_fault(columns, reasons):
    assert outcomes(**columns)[1] == reasons


def test_columns_that_must_be_there():
    with pytest.raises(FileRejected, match="language"):
        judged("posts", {"post_id": pa.array(["p"]), "created_at": pa.array([MOMENT])})


def posts(**columns):
    num_rows = len(next(iter(columns.values())))
    usual = {
        "post_id": pa.array([f"p{n}" for n in range(num_rows)]),
        "created_at": pa.array([MOMENT] * num_rows),
        "language": pa.array(["en"] * num_rows),
        "text": pa.array(["text"] * num_rows),
    }
    return judged("posts", usual | columns)


def test_lists_are_cleaned_row_by_row():
    lists = pa.array([["#a", None, "#b\x00"], None, [], ["#c"]], pa.large_list(pa.string()))
    found, reasons = posts(hashtags=lists)
    assert (found["hashtags"].to_pylist(), reasons) == ([["#a", "#b"], [], [], ["#c"]], [None] * 4)


def test_media_of_a_sliced_column_belong_to_their_rows():
    """Arrow slices keep the values of the whole: reading offsets wrongly would shift media to other posts."""
    item = {"kind": "image", "uri": "media/a.png", "width": 5}
    media = pa.array([[item], None, [item, item | {"kind": "gif"}], [], [item | {"uri": None}]]).slice(1)
    found, reasons = posts(media=media)
    assert reasons == [None, "media_kind_unknown", None, "media_path_unsafe"]
    assert found["media"].to_pylist()[1][0] == {"kind": "image", "uri": "media/a.png"}
    assert [len(items) for items in found["media"].to_pylist()] == [0, 2, 0, 1]


def test_bounds_of_params_are_kept():
    assert posts(text=pa.array(["a" * 2_000_001, "a" * 2_000_000]))[1] == ["text_too_long", None]
    item = {"kind": "image", "uri": "media/a.png"}
    assert posts(media=pa.array([[item] * 65, [item] * 64]))[1] == ["media_too_many", None]


def test_every_delivered_column_has_a_place_in_the_ledger():
    for table, contract in contracts.DELIVERED.items():
        assert set(contract.schema.names) <= set(contracts.LEDGER[table].names)
        assert set(contract.optional) <= set(contract.schema.names)
        assert contract.time in contract.schema.names


CELL = st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=3))
TOMBSTONE = st.tuples(CELL, CELL, st.integers(0, 3))


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(st.lists(TOMBSTONE, min_size=1, max_size=8))
def test_rows_have_the_same_digest_exactly_if_they_are_equal(drawn):
    columns = [pa.array([row[n] for row in drawn], contracts.TOMBSTONES.field(n).type) for n in range(3)]
    digests = row_digests("tombstones", pa.table(columns, schema=contracts.TOMBSTONES)).to_pylist()
    assert len(set(digests)) == len(set(drawn))
    assert len(set(zip(drawn, digests, strict=True))) == len(set(drawn))
