"""Outcomes → labels: each rule by a case small enough to work out by hand, and properties over random histories."""

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upheld.common.params.data import Labels
from upheld.feature_store.contracts import tables as contracts
from upheld.feature_store.ledger import verdicts
from upheld.feature_store.snapshot import label_aggregation

PARAMS = Labels(min_shared_items=200, max_reviewer_share=0.2)
END = pd.Timestamp("2026-10-01", tz="UTC")
COLUMNS = ["outcome_id", "revision", "post_id", "category", "verdict", "reviewer_id", "reviewed_at", "source", "inclusion_prob"]


def day(number: float) -> pd.Timestamp:
    return pd.Timestamp("2026-09-01", tz="UTC") + pd.Timedelta(days=number)


def outcome(name: str, verdict: str, at: float, reviewer: str = "r1", source: str = "queue", prob: float = 0.6, revision: int = 0) -> tuple:
    return (name, revision, "p1", "spam", verdict, reviewer, day(at), source, prob)


def labelled(*rows: tuple, as_of: pd.Timestamp = END) -> label_aggregation.Labelled:
    table = pd.DataFrame(rows, columns=COLUMNS)
    languages = pd.Series("en", index=table["post_id"].unique())
    return label_aggregation.label(table, languages, as_of, PARAMS)


def one(*rows: tuple, as_of: pd.Timestamp = END) -> pd.Series:
    items = labelled(*rows, as_of=as_of).items
    assert len(items) == 1
    return items.iloc[0]


def test_every_source_and_verdict_of_the_contract_is_known() -> None:
    assert {*verdicts.ZONES, contracts.APPEAL, contracts.TARGETED} == set(contracts.SOURCES)
    assert set(verdicts.ZONES.values()) == set(contracts.ZONES)
    assert {*verdicts.VOTES, "escalate"} == set(contracts.VERDICTS)


def test_one_verdict_is_the_label() -> None:
    item = one(outcome("o1", "confirm_removal", 1))
    assert (item.label, item.hard_label, item.num_reviewers, item.zone, item.evidence) == (1, 1, 1, "review", "sample")
    assert item.inclusion_prob == 0.6
    assert one(outcome("o1", "restore", 1)).label == 0


@pytest.mark.parametrize(("as_of", "expected"), [(day(3), 1), (day(5), 0)])
def test_highest_revision_known_at_the_time_counts(as_of: pd.Timestamp, expected: int) -> None:
    rows = (outcome("o1", "confirm_removal", 1), outcome("o1", "restore", 4, revision=1))
    assert one(*rows, as_of=as_of).hard_label == expected


def test_what_was_recorded_later_is_unknown_though_reviewed_before() -> None:
    table = pd.DataFrame([outcome("o1", "restore", 1), outcome("o2", "confirm_removal", 2, "r2")], columns=COLUMNS)
    table["recorded_at"] = [day(1), day(20)]
    items = label_aggregation.label(table, pd.Series("en", index=["p1"]), day(10), PARAMS).items
    assert items[["label", "num_reviewers"]].values.tolist() == [[0, 1]]


def test_escalation_is_unknown_until_resolved() -> None:
    item = one(outcome("o1", "escalate", 1))
    assert pd.isna(item.label)
    assert pd.isna(item.hard_label)
    assert item.num_reviewers == 0
    resolved = (outcome("o1", "escalate", 1), outcome("o2", "confirm_removal", 2, "r2"))
    assert one(*resolved).label == 1
    assert pd.isna(one(*resolved, as_of=day(1.5)).label)


def test_escalation_puts_earlier_verdicts_in_doubt() -> None:
    before = outcome("o1", "restore", 1)
    assert pd.isna(one(before, outcome("o2", "escalate", 2, "r2")).label)
    after = one(before, outcome("o2", "escalate", 2, "r2"), outcome("o3", "confirm_removal", 3, "r3"))
    assert (after.label, after.num_reviewers) == (1, 1)


def test_verdict_of_the_same_moment_does_not_resolve() -> None:
    assert pd.isna(one(outcome("o1", "escalate", 1), outcome("o2", "restore", 1, "r2")).label)


def test_appeal_trains_but_has_no_probability() -> None:
    item = one(outcome("o1", "restore", 1, source="appeal", prob=1.0))
    assert (item.label, item.evidence) == (0, "appeal")
    assert pd.isna(item.inclusion_prob)
    assert pd.isna(item.zone)


def test_audit_gives_the_probability_where_there_is_an_appeal_too() -> None:
    appeal = outcome("o1", "restore", 1, source="appeal", prob=1.0)
    item = one(appeal, outcome("o2", "restore", 2, "r2", source="audit_removed", prob=0.1))
    assert (item.inclusion_prob, item.zone, item.evidence, item.num_reviewers) == (0.1, "auto_remove", "sample", 2)
    assert item.label < 0.5


def test_appeal_resolves_an_escalated_draw_and_the_draw_keeps_its_probability() -> None:
    item = one(outcome("o1", "escalate", 1, source="audit_passed", prob=0.02), outcome("o2", "restore", 2, "r2", "appeal", 1.0))
    assert (item.label, item.inclusion_prob, item.zone) == (0, 0.02, "none")


def test_latest_verdict_of_one_reviewer_counts_once() -> None:
    item = one(outcome("o1", "confirm_removal", 1), outcome("o2", "restore", 2))
    assert (item.label, item.num_reviewers) == (0, 1)


def test_disagreement_gives_a_soft_label_and_a_tie_no_hard_one() -> None:
    item = one(outcome("o1", "confirm_removal", 1), outcome("o2", "restore", 2, "r2"))
    assert item.label == pytest.approx(0.5)
    assert pd.isna(item.hard_label)
    agreed = one(*(outcome(f"o{n}", "confirm_removal", n, f"r{n}") for n in range(3)))
    assert 0.9 < agreed.label < 1


def test_a_language_with_enough_shared_items_has_its_own_error_model() -> None:
    """The same two reviewers: r1 is right in English and answers at random in German."""
    rows, languages = [], {}
    for number in range(80):
        language = "en" if number % 2 else "de"
        truth = number % 4 < 2
        guess = truth if language == "en" else number % 8 < 4
        post = f"p{number}"
        languages[post] = language
        for reviewer, violation in (("r1", guess), ("r2", truth), ("r3", truth)):
            verdict = "confirm_removal" if violation else "restore"
            rows.append((f"o{post}{reviewer}", 0, post, "hate_speech", verdict, reviewer, day(1), "queue", 1.0))
    table = pd.DataFrame(rows, columns=COLUMNS)

    def certainty(min_items: int) -> pd.Series:
        items = label_aggregation.label(table, pd.Series(languages), END, Labels(min_shared_items=min_items, max_reviewer_share=0.2)).items
        return (items["label"] - 0.5).abs().groupby(items["post_id"].map(languages)).mean()

    assert certainty(40)["en"] > certainty(1000)["en"]


VERDICTS = st.sampled_from(["confirm_removal", "restore", "escalate"])
HISTORIES = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 3), VERDICTS, st.integers(0, 3), st.integers(0, 20), st.sampled_from(["queue", "appeal"])),
    min_size=1,
    max_size=25,
)


def history(drawn: list[tuple]) -> pd.DataFrame:
    rows = [
        (f"o{post}{number}", 0, f"p{post}", f"c{category}", verdict, f"r{reviewer}", day(at), source, 1.0 if source == "appeal" else 0.5)
        for number, (post, category, verdict, reviewer, at, source) in enumerate(drawn)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


@settings(max_examples=40, deadline=None)
@given(HISTORIES, st.randoms(use_true_random=False))
def test_every_item_has_one_label_whatever_the_order(drawn: list[tuple], random) -> None:
    table = history(drawn)
    languages = pd.Series("en", index=table["post_id"].unique())
    found = label_aggregation.label(table, languages, END, PARAMS)
    order = list(range(len(table)))
    random.shuffle(order)
    again = label_aggregation.label(table.iloc[order], languages, END, PARAMS)
    pd.testing.assert_frame_equal(found.items, again.items, check_exact=True)
    items = found.items
    assert set(map(tuple, items[["post_id", "category"]].values)) == set(map(tuple, table[["post_id", "category"]].values))
    assert not items.duplicated(["post_id", "category"]).any()
    assert items["label"].dropna().between(0, 1).all()
    assert (items["label"].isna() == (items["num_reviewers"] == 0)).all()
    assert (items["inclusion_prob"].isna() == (items["evidence"] == "appeal")).all()


@settings(max_examples=25, deadline=None)
@given(HISTORIES, st.integers(0, 20))
def test_the_future_does_not_change_the_past(drawn: list[tuple], at: int) -> None:
    """Labels as of T are the same whether or not later rows are in the table."""
    table = history(drawn)
    languages = pd.Series("en", index=table["post_id"].unique())
    past = table[table["reviewed_at"] <= day(at)]
    with_future = label_aggregation.label(table, languages, day(at), PARAMS).items
    assert len(with_future) == len(past.drop_duplicates(["post_id", "category"]))
    if len(past):
        pd.testing.assert_frame_equal(with_future, label_aggregation.label(past, languages, day(at), PARAMS).items, check_exact=True)
