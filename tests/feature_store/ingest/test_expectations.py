"""Great Expectations on whole batches: a failure blocks, and what mends it unblocks."""

from datetime import timedelta

import pytest

from tests.feature_store.deliveries import AS_OF, deliver, outcome, parameters, post, take
from upheld.feature_store.ingest import expectations
from upheld.feature_store.ledger import ledger

GOOD = {
    "num_accepted": 500.0,
    "quarantined_share": 0.1,
    "label_rate": 0.4,
    "language_shift": 0.2,
    "newest_post_age_days": 3.0,
    "num_missing_weeks": 0.0,
}


@pytest.mark.parametrize(
    ("fact", "value"),
    [
        ("num_accepted", 0.0),
        ("quarantined_share", 0.9),
        ("label_rate", 0.0),
        ("label_rate", 1.0),
        ("language_shift", 0.8),
        ("newest_post_age_days", 60.0),
        ("num_missing_weeks", 1.0),
    ],
)
def test_each_expectation_can_fail_alone(fact, value):
    bounds = parameters().expectations
    assert all(check["success"] for check in expectations.validate(GOOD, bounds))
    failed = [check["name"] for check in expectations.validate(GOOD | {fact: value}, bounds) if not check["success"]]
    assert failed == [fact]


def test_too_little_to_tell_passes_and_says_so():
    checks = expectations.validate(dict.fromkeys(GOOD), parameters().expectations)
    assert {check["detail"] for check in checks} == {"too few rows to tell"}
    assert all(check["success"] for check in checks)


def facts(store):
    return ledger.Ledger(store).validation["facts"]


def test_facts_are_those_of_the_batch_and_the_ledger(tmp_path):
    store = tmp_path / "store"
    few = "expectations.min_rows_to_tell=2"
    first = [post("p1"), post("p2"), post("p3", language="de"), post("p4", language="de")]
    verdicts = [
        outcome(f"o{n}", verdict=verdict) for n, verdict in enumerate(["restore", "restore", "confirm_removal", "escalate", "nonsense"])
    ]
    take(deliver(tmp_path / "1", posts=first, review_outcomes=verdicts), store, AS_OF, few)
    assert facts(store) == {
        "num_accepted": 8.0,
        "quarantined_share": pytest.approx(1 / 9),
        "label_rate": pytest.approx(1 / 3),
        "language_shift": None,
        "newest_post_age_days": pytest.approx(6 + 14 / 24),
        "num_missing_weeks": 0.0,
    }
    second = [post(f"q{n}", created_at="2026-10-18T23:59:59Z") for n in range(3)]  # the Sunday two ISO weeks before
    take(deliver(tmp_path / "2", posts=second), store, AS_OF, few)
    assert facts(store)["language_shift"] == pytest.approx(0.5)
    assert facts(store)["num_missing_weeks"] == 1.0
    assert facts(store)["label_rate"] is None


def test_a_failure_is_kept_until_a_delivery_or_the_params_mend_it(tmp_path):
    store = tmp_path / "store"
    gap = deliver(tmp_path / "1", posts=[post("p1"), post("p2", created_at="2026-10-10T00:00:00Z")])
    summary = take(gap, store)
    assert not summary["validation"]["success"]
    known = ledger.Ledger(store)
    assert [check["name"] for check in known.validation["checks"] if not check["success"]] == ["num_missing_weeks"]
    take(gap, store)
    assert not ledger.Ledger(store).validation["success"]
    take(gap, store, AS_OF, "expectations.max_missing_weeks=3")
    allowed = ledger.Ledger(store)
    assert allowed.validation["success"]
    assert (allowed.versions, allowed.as_of) == (known.versions, known.as_of)
    late = deliver(tmp_path / "2", posts=[post("p3", created_at="2026-10-15T00:00:00Z"), post("p4", created_at="2026-10-22T00:00:00Z")])
    assert take(late, store, AS_OF + timedelta(days=1))["validation"]["success"]
