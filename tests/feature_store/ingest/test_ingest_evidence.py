"""What a row that reaches a delivery can do to the evidence of others: nothing but add a verdict of its own."""

from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest

from tests.feature_store.deliveries import AS_OF, decision, deliver, outcome, parameters, post, rows, take
from tests.feature_store.ingest.test_ingest import draws
from upheld.common.errors import BadUse
from upheld.evaluation.weekly import scores as week_scores
from upheld.evaluation.weekly.source import Source
from upheld.feature_store.ledger import ledger

pytestmark = pytest.mark.usefixtures("without_expectations")
LATER = AS_OF + timedelta(days=1)
END = pd.Timestamp("2027-01-01", tz="UTC")
AUDITED = {"source": "audit_removed", "inclusion_prob": 0.5, "verdict": "confirm_removal"}
FORGED = {"source": "audit_passed", "inclusion_prob": 0.001, "verdict": "restore", "reviewer_id": "r9"}
FORGED |= {"reviewed_at": "2026-10-26T10:00:00Z"}  # as early as can be: the time of the post


def store_with(folder, *outcomes, **further):
    take(deliver(folder / "honest", posts=[post()], decisions=[decision()], review_outcomes=list(outcomes), **further), folder / "store")
    return folder / "store"


def then(store, *outcomes, at=LATER):
    return take(deliver(store.parent / f"later{at.timestamp()}", review_outcomes=list(outcomes)), store, at)["tables"]["review_outcomes"]


def item(store):
    """The row of the week's score table that evaluation counts."""
    table = week_scores.build(Source(store, parameters().ingest).read("2026-W44"), "2026-W44", END)
    (row,) = table.to_dict("records")
    return {name: None if pd.isna(row[name]) else row[name] for name in ("label", "inclusion_prob", "zone")}


HONEST = {"label": 1.0, "inclusion_prob": 0.5, "zone": "auto_remove"}


def test_a_backdated_outcome_with_a_made_up_draw_does_not_take_over_the_weight(tmp_path):
    store = store_with(tmp_path, *(outcome(f"o{n}", reviewer_id=f"r{n}", **AUDITED) for n in range(4)))
    assert item(store) == HONEST
    assert then(store, outcome("x", draw_id="made up", **FORGED))["accepted"] == 1
    assert item(store) == HONEST


@pytest.mark.parametrize("prob", [None, 1.0, 0.001])
def test_a_second_review_of_a_doubted_label_needs_no_probability_and_moves_no_estimate(tmp_path, prob):
    store = store_with(tmp_path, outcome(**AUDITED))
    second = {"source": "targeted", "draw_id": "t_1", "verdict": "restore", "reviewer_id": "r9", "inclusion_prob": prob}
    assert then(store, outcome("x", **second))["accepted"] == 1
    assert then(store, outcome("y", **(second | {"reviewed_at": "2026-10-26T10:00:00Z", "reviewer_id": "r8"})))["accepted"] == 1
    assert item(store) == HONEST
    (kept,) = (row for row in rows(store, "review_outcomes") if row["outcome_id"] == "x")
    assert (kept["source"], kept["verdict"], kept["inclusion_prob"]) == ("targeted", "restore", prob or 1.0)
    alone = store_with(tmp_path / "alone", outcome(**(AUDITED | second)))
    assert item(alone)["label"] is None and item(alone)["inclusion_prob"] is None


@pytest.mark.parametrize("source", ["queue", "audit_removed", "audit_passed", "appeal"])
@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_every_other_source_states_a_probability_in_the_ledger_and_in_a_delivery(tmp_path, source, suffix):
    def folder(name, source):
        return deliver(tmp_path / name, suffix, posts=[post()], decisions=[decision()],
                       review_outcomes=[outcome(source=source, inclusion_prob=None), outcome("o2", source=source)])  # fmt: skip

    counts = take(folder("a", source), tmp_path / "store")["tables"]["review_outcomes"]
    assert (counts["by_reason"], counts["accepted"]) == ({"inclusion_prob_out_of_range": 1}, 1)
    with pytest.raises(BadUse, match="row 1, column inclusion_prob"):
        Source(tmp_path, parameters().ingest, Path(folder("a", source))).read("2026-W44")
    asked = Source(tmp_path, parameters().ingest, Path(folder("b", "targeted"))).read("2026-W44")
    assert asked.outcomes.empty and len(asked.decisions) == 1


def test_a_corrected_outcome_keeps_its_place_before_a_backdated_one(tmp_path):
    store = store_with(tmp_path, outcome(**AUDITED))
    then(store, outcome("x", **FORGED))
    then(store, outcome(revision=1, **AUDITED), at=LATER + timedelta(days=1))
    assert item(store) == HONEST | {"label": None}  # one verdict against one


@pytest.mark.parametrize("draw_id", [None, "w1", "made up"])
def test_an_audit_outcome_of_a_post_that_we_drew_needs_our_draw_id(tmp_path, draw_id):
    ledger.record_draws(tmp_path / "store", draws(draw_id="W1", zone="auto_remove", inclusion_prob=0.5))
    store = store_with(tmp_path, outcome(draw_id="W1", **AUDITED))
    assert then(store, outcome("x", draw_id=draw_id, **FORGED))["by_reason"] == {"draw_id_missing": 1}
    assert item(store) == HONEST
    assert [row["outcome_id"] for row in rows(store, "review_outcomes")] == ["o1"]


def test_an_answer_without_its_draw_id_can_be_mended_with_a_higher_revision(tmp_path):
    ledger.record_draws(tmp_path / "store", draws(draw_id="W1", zone="auto_remove", inclusion_prob=0.5))
    store = store_with(tmp_path, outcome(**AUDITED))
    (held,) = rows(store, "quarantine")
    assert held["reason"] == "draw_id_missing" and "draw_id" in held["detail"] and "revision" in held["detail"]
    assert then(store, outcome(revision=1, draw_id="W1", **AUDITED))["accepted"] == 1
    assert item(store) == HONEST


@pytest.mark.parametrize("first", ["queue", "draw"])
def test_a_queue_verdict_on_a_post_that_we_drew_counts_as_a_verdict_and_brings_no_weight(tmp_path, first):
    ledger.record_draws(tmp_path / "store", draws(draw_id="W1", zone="auto_remove", inclusion_prob=0.5))
    queued = outcome("q", source="queue", inclusion_prob=0.9, verdict="confirm_removal", reviewed_at="2026-10-26T10:00:02Z")
    drawn = outcome("o1", draw_id="W1", reviewer_id="r2", **AUDITED)
    one, other = (queued, drawn) if first == "queue" else (drawn, queued)
    store = store_with(tmp_path, one)
    if first == "queue":
        assert item(store) == {"label": None, "inclusion_prob": None, "zone": "review"}  # of the decision: our draw has no answer yet
    assert then(store, other)["accepted"] == 1
    assert item(store) == HONEST


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"revision": 2**62}, "revision_invalid"),
        ({"revision": 4097}, "revision_invalid"),
        ({"revision": 9, "reviewer_id": "r9"}, "revision_changes_identity"),
        ({"revision": 9, "post_id": "p2"}, "revision_changes_identity"),
        ({"revision": 9, "category": "hate_speech"}, "revision_changes_identity"),
        ({"revision": 0, "post_id": "p2", "category": "hate_speech", "reviewer_id": "r9"}, "revision_changes_identity"),
        ({"revision": 9}, None),
    ],
)
def test_a_revision_keeps_post_category_and_reviewer_and_has_a_bound(tmp_path, values, reason):
    take(deliver(tmp_path / "other", posts=[post("p2")]), tmp_path / "store")
    store = store_with(tmp_path, outcome(revision=1, **AUDITED))
    found = then(store, outcome(**(AUDITED | {"verdict": "restore"} | values)))
    assert found["by_reason"] == ({} if reason is None else {reason: 1})
    assert item(store) == HONEST | ({} if reason else {"label": 0.0})


def test_of_one_delivery_the_lowest_revision_says_what_an_outcome_is_about(tmp_path):
    store = store_with(tmp_path, outcome(revision=7, reviewer_id="r9"), outcome(revision=0), outcome(revision=1, verdict="escalate"))
    assert sorted(row["revision"] for row in rows(store, "review_outcomes")) == [0, 1]
    assert [(row["revision"], row["reason"]) for row in rows(store, "quarantine")] == [(7, "revision_changes_identity")]


@pytest.mark.parametrize("at", [LATER, AS_OF])
def test_a_changed_copy_that_comes_later_does_not_take_the_place_of_an_accepted_row(tmp_path, at):
    store = store_with(tmp_path, outcome(**AUDITED))
    copies = {"posts": [post(text="changed")], "decisions": [decision(score=0.1)], "review_outcomes": [outcome(**FORGED)]}
    summary = take(deliver(tmp_path / "copies", **copies), store, at)
    assert [summary["tables"][table]["by_reason"] for table in copies] == [{"duplicate_conflict": 1}] * 3
    assert summary["changed"] == {}
    assert item(store) == HONEST
    assert [row["text"] for row in rows(store, "posts")] == ["text of p1"]
    again = take(deliver(tmp_path / "copies", **copies), store, at + timedelta(days=2))
    assert [again["tables"][table]["duplicate"] for table in copies] == [1, 1, 1]
    assert item(store) == HONEST


def test_an_outcome_that_waits_for_its_post_holds_its_place_as_well(tmp_path):
    take(deliver(tmp_path / "1", review_outcomes=[outcome(**AUDITED)]), tmp_path / "store")
    take(deliver(tmp_path / "2", review_outcomes=[outcome(**FORGED)]), tmp_path / "store", LATER)
    take(deliver(tmp_path / "3", posts=[post()], decisions=[decision()]), tmp_path / "store", LATER + timedelta(days=1))
    assert item(tmp_path / "store") == HONEST
