"""The ledger is a function of what was delivered and of each ingest's "now": not of the order, of repeats, or of when corrections came.

Ingests of the same "now" are told apart by their order alone (test_ingest_evidence.py); here each delivery has its own.

The oracle below is written over sets of rows and shares nothing with the code under test.
"""

import tempfile
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.feature_store.deliveries import decision, deliver, outcome, post, take
from upheld.feature_store.ingest import expectations
from upheld.feature_store.ledger import ledger

DAY = datetime(2026, 10, 20, tzinfo=UTC)
SKEW = timedelta(seconds=300)
TABLES = ("posts", "decisions", "review_outcomes")


def at(hours: int) -> str:
    return (DAY + timedelta(hours=hours)).isoformat()


# Few ids and few contents, so that duplicates, conflicts, corrections and unknown posts abound. A row is (table, *what varies).
POSTS = st.tuples(st.just("posts"), st.sampled_from("ab"), st.sampled_from([0, 48]), st.sampled_from([None, "w1", "w2"]), st.just("x"))
DECISIONS = st.tuples(st.just("decisions"), st.sampled_from("de"), st.sampled_from("abz"), st.sampled_from([0.5, 0.75]))
OUTCOMES = st.tuples(
    st.just("review_outcomes"),
    st.sampled_from("op"),
    st.integers(0, 1),
    st.sampled_from("abz"),
    st.sampled_from(["restore", "escalate", "no"]),
    st.sampled_from([24, 72, 144]),
    st.sampled_from("rrs"),
)
GONE = st.tuples(st.just("tombstones"), st.sampled_from([("a", None), (None, "w1"), (None, "w2")]))
DELIVERY = st.tuples(
    st.lists(st.one_of(POSTS, POSTS, DECISIONS, OUTCOMES, OUTCOMES, GONE), min_size=1, max_size=6), st.sampled_from([120, 130, 168])
)


def as_row(row):
    table, *values = row
    if table == "posts":
        post_id, hours, author, text = values
        return post(post_id, created_at=at(hours), author_id=author, text=text)
    if table == "decisions":
        decision_id, post_id, score = values
        return decision(decision_id, post_id=post_id, score=score, decided_at=at(60))
    if table == "review_outcomes":
        outcome_id, revision, post_id, verdict, hours, reviewer = values
        return outcome(outcome_id, revision=revision, post_id=post_id, verdict=verdict, reviewed_at=at(hours), reviewer_id=reviewer)
    ((post_id, author),) = values
    return {"post_id": post_id, "author_id": author, "deleted_at": at(100)}


def ingest_all(deliveries, folder):
    store = Path(folder) / "store"
    for number, (rows, hours) in enumerate(deliveries):
        tables = defaultdict(list)
        for row in rows:
            tables[row[0]].append(as_row(row))
        take(deliver(Path(folder) / str(number), **tables), store, DAY + timedelta(hours=hours))
    return ledger.Ledger(store)


def stated(known):
    """What the ledger holds: accepted rows with the time they were learned, and how many are held back for which reason."""
    accepted = {}
    for table in TABLES:
        for row in known.read(table).to_pylist():
            key = (table, row["row_digest"])
            accepted[key] = row["recorded_at"]
    held = Counter()
    for where in ("pending", "quarantine"):
        for row in known.read(where, ["table", "row_digest", "reason"]).to_pylist():
            held[where, row["table"], row["row_digest"], row["reason"]] += 1
    return accepted, held


def expected(deliveries):
    """(table, key…) of accepted rows with their times, and (table, reason) counts of those held back."""
    first: dict[tuple, int] = {}
    bad: Counter = Counter()
    for rows, hours in deliveries:
        here: Counter = Counter()
        for row in rows:
            if row[0] == "review_outcomes" and row[4] == "no":
                here[row] += 1
            else:
                first[row] = min(first.get(row, hours), hours)
        bad |= here  # the largest count of any one delivery
    authors = {row[1][1] for row in first if row[0] == "tombstones"} - {None}
    gone = {row[1][0] for row in first if row[0] == "tombstones"} | {row[1] for row in first if row[0] == "posts" and row[3] in authors}
    time_of = {"posts": lambda row: row[2], "decisions": lambda row: 60, "review_outcomes": lambda row: row[5]}
    key_of = {"posts": lambda row: row[1], "decisions": lambda row: row[1], "review_outcomes": lambda row: row[1:3]}
    about = {"posts": lambda row: row[1], "decisions": lambda row: row[2], "review_outcomes": lambda row: row[3]}
    accepted: dict[tuple, int] = {}
    held: Counter = Counter()
    created: dict[str, int] = {}
    for table in TABLES:
        rows = [row for row in first if row[0] == table and about[table](row) not in gone]
        early = [row for row in rows if time_of[table](row) > first[row]]
        sharing = defaultdict(list)
        for row in rows:
            if row not in early:
                sharing[key_of[table](row)].append(first[row])
        standing = [row for row in rows if row not in early and stands(first[row], sharing[key_of[table](row)])]
        began = {}  # of each outcome: when its first revision was learned, which that was, its post and reviewer
        if table == "review_outcomes":
            for row in standing:
                began[row[1]] = min(began.get(row[1], (999,)), (first[row], row[2], row[3], row[6]))
        for row in rows:
            if row in early:
                held["quarantine", table, "timestamp_future"] += 1
            elif row not in standing:
                held["quarantine", table, "duplicate_conflict"] += 1
            elif began and began[row[1]][2:] != (row[3], row[6]):
                held["quarantine", table, "revision_changes_identity"] += 1
            elif table == "posts":
                accepted[row] = first[row]
                created[row[1]] = row[2]
            elif about[table](row) not in created:
                held["pending", table, "unknown_post"] += 1
            elif time_of[table](row) < created[about[table](row)]:
                held["quarantine", table, "timestamp_order"] += 1
            else:
                accepted[row] = first[row]
    for row, count in bad.items():
        if row[3] not in gone:
            held["quarantine", "review_outcomes", "unknown_verdict"] += count
    return Counter((row[0], key_of[row[0]](row), hours) for row, hours in accepted.items()), held


def stands(hours, others):
    """Whether a row that was learned then is the one and only first of those that share its key."""
    return hours == min(others) and others.count(hours) == 1


def found(known):
    accepted = Counter()
    keys = {"posts": ["post_id"], "decisions": ["decision_id"], "review_outcomes": ["outcome_id", "revision"]}
    for table, names in keys.items():
        for row in known.read(table).to_pylist():
            key = tuple(row[name] for name in names)
            hours = int((row["recorded_at"] - DAY).total_seconds() // 3600)
            accepted[table, key if len(key) > 1 else key[0], hours] += 1
    held = Counter()
    for where in ("pending", "quarantine"):
        for row in known.read(where, ["table", "reason"]).to_pylist():
            held[where, row["table"], row["reason"]] += 1
    return accepted, held


def check_order(deliveries, order):
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        patch.setattr(expectations, "judge", lambda *_: {})
        known = ingest_all(deliveries, one)
        other = ingest_all(order, two)
        assert found(known) == expected(deliveries)
        assert stated(known) == stated(other)
        assert known.content_digest() == other.content_digest()
        versions = known.versions
        for rows, hours in deliveries:  # everything once more
            tables = defaultdict(list)
            for row in rows:
                tables[row[0]].append(as_row(row))
            take(deliver(Path(one) / "again", **tables), Path(one) / "store", DAY + timedelta(hours=max(hours, 168)))
            for path in (Path(one) / "again").rglob("*.jsonl"):
                path.unlink()
        assert ledger.Ledger(Path(one) / "store").versions == versions


ORDERS = st.lists(DELIVERY, min_size=1, max_size=3, unique_by=lambda delivery: delivery[1]).flatmap(
    lambda deliveries: st.tuples(st.just(deliveries), st.lists(st.sampled_from(deliveries), max_size=2), st.permutations(deliveries)).map(
        lambda drawn: (drawn[0], [*drawn[1], *drawn[2]])
    )
)
QUIET = {
    "deadline": None,
    "database": None,
    "phases": [Phase.explicit, Phase.generate],
    "suppress_health_check": list(HealthCheck),
    "derandomize": True,
}


def test_a_post_named_by_a_tombstone_is_refused_alike_before_and_after_its_author_is_forgotten():
    named = ([("posts", "a", 0, "w1", "x"), ("tombstones", ("a", None))], 120)
    author = ([("posts", "b", 0, "w1", "x"), ("tombstones", (None, "w1"))], 168)
    check_order([named, author], [named, author, named])
    check_order([named, author], [author, named])


def test_a_row_learned_late_came_with_the_rows_of_the_earlier_delivery_that_holds_it_too():
    late = ([("posts", "a", 0, None, "x"), ("decisions", "d", "a", 0.5)], 168)
    both = ([("decisions", "d", "a", 0.5), ("decisions", "d", "a", 0.75)], 130)
    check_order([late, both], [both, late])


@settings(max_examples=4, **QUIET)
@given(ORDERS)
def test_any_order_and_repeats_give_the_same_ledger(drawn):
    check_order(*drawn)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@settings(max_examples=50, **QUIET)
@given(ORDERS)
def test_any_order_and_repeats_give_the_same_ledger_many(drawn):
    check_order(*drawn)
