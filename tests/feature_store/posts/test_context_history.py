"""The excess of a context against a replay of its history, review by review."""

import math

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upheld.feature_store.posts import history
from upheld.feature_store.posts.history import CONTEXT_STRENGTH, context_excess, current


def at(hour: int) -> pd.Timestamp:
    return pd.Timestamp("2026-09-01", tz="UTC") + pd.Timedelta(hours=hour)


def posts_of(rows: list[tuple[int, str | None]]) -> pd.DataFrame:
    names = [f"p{number}" for number in range(len(rows))]
    table = pd.DataFrame({"post_id": names, "created_at": [at(hour) for hour, _ in rows], "context_id": [board for _, board in rows]})
    return table.astype({"context_id": "str", "post_id": "str"})


def outcomes_of(rows: list[tuple[int, int, str, int, int]], source: str = "queue") -> pd.DataFrame:
    """post, outcome, verdict, hour, revision; a post's number says with what probability it was drawn."""
    table = [(f"o{post}/{n}", rev, f"p{post}", "spam", verdict, at(hour), source, 1 / (1 + post)) for post, n, verdict, hour, rev in rows]
    columns = ["outcome_id", "revision", "post_id", "category", "verdict", "reviewed_at", "source", "inclusion_prob"]
    return pd.DataFrame(table, columns=columns).astype(
        dict.fromkeys(["outcome_id", "post_id", "category", "verdict", "source"], "str")
        | {"reviewed_at": "datetime64[us, UTC]", "revision": "int64", "inclusion_prob": "float64"}
    )


def logit(rate: float) -> float:
    return math.log(rate / (1 - rate))


def replayed(post: dict, posts: pd.DataFrame, outcomes: pd.DataFrame) -> float | None:
    """Take the outcomes reviewed before the post was made, the last revision of each, and weigh by hand."""
    said = {}
    for row in outcomes.sort_values("revision").to_dict("records"):
        if row["reviewed_at"] < post["created_at"]:
            said[row["outcome_id"]] = row
    balance: dict[str, int] = {}
    for row in said.values():
        change = {"confirm_removal": 1, "restore": -1, "escalate": 0}[row["verdict"]]
        balance[row["post_id"]] = balance.get(row["post_id"], 0) + change
    boards = posts.set_index("post_id")["context_id"]
    everywhere = [(1 + int(name[1:]), value > 0, boards[name]) for name, value in balance.items() if value]
    here = [entry for entry in everywhere if entry[2] == post["context_id"]]
    if not here:
        return None

    def rate(entries: list, extra: float, prior: float) -> float:
        mass = sum(weight for weight, *_ in entries)
        effective = mass**2 / sum(weight**2 for weight, *_ in entries)
        share = sum(weight for weight, violates, _ in entries if violates) / mass
        return (effective * share + extra * prior) / (effective + extra)

    overall = rate(everywhere, 2, 0.5)
    return logit(rate(here, CONTEXT_STRENGTH, overall)) - logit(overall)


def found(posts: pd.DataFrame, outcomes: pd.DataFrame) -> list[dict[str, float]]:
    return context_excess(posts, outcomes, posts.set_index("post_id")["context_id"])


POSTS = st.lists(st.tuples(st.integers(0, 30), st.none() | st.sampled_from(["b1", "b2"])), min_size=1, max_size=8)
VERDICTS = st.sampled_from(["confirm_removal", "restore", "escalate"])


@settings(max_examples=25, deadline=None)
@given(st.data(), POSTS)
def test_says_what_was_known_when_the_post_was_made(data: st.DataObject, rows: list) -> None:
    one = st.tuples(st.integers(0, len(rows) - 1), st.integers(0, 2), VERDICTS, st.integers(0, 40))
    drawn = sorted(data.draw(st.lists(one, max_size=14)), key=lambda row: row[3])
    times: dict[tuple[int, int], int] = {}
    outcomes = []
    for post, number, verdict, hour in drawn:  # a further row of the same outcome is a correction
        times[post, number] = times.get((post, number), -1) + 1
        outcomes.append((post, number, verdict, hour, times[post, number]))
    posts, table = posts_of(rows), outcomes_of(outcomes)
    expected = [replayed(post, posts, table) for post in posts.to_dict("records")]
    for shuffled in (table, table.sample(frac=1, random_state=1)):
        ours = [one.get("spam") for one in found(posts, shuffled)]
        assert ours == [None if value is None else pytest.approx(value, abs=1e-9) for value in expected]
    # What is known now is what a post made after everything would have known.
    later = posts_of([*rows, (99, "b1")])
    now = current(table, pd.Series(None, index=posts["post_id"], dtype="str"), posts.set_index("post_id")["context_id"]).contexts
    last = found(later, table)[-1]
    assert now.get("b1", {}).keys() == last.keys()
    assert now.get("b1", {}) == pytest.approx(last, abs=1e-9)


def test_a_board_that_breaks_the_policy_stands_above_one_that_does_not_and_little_is_hardly_anything() -> None:
    rows = [(0, "bad")] * 20 + [(0, "good")] * 20 + [(9, "bad"), (9, "good"), (9, "new"), (9, None)]
    verdicts = [(number, 0, "confirm_removal" if number < 20 else "restore", 5, 0) for number in range(40)]
    posts, outcomes = posts_of(rows), outcomes_of(verdicts).assign(inclusion_prob=0.5)
    bad, good, new, nowhere = found(posts, outcomes)[-4:]
    assert bad["spam"] > 1 and good["spam"] < -1 and new == nowhere == {}
    one_review = pd.concat([outcomes, outcomes_of([(42, 0, "confirm_removal", 6, 0)]).assign(inclusion_prob=0.5)])
    (few,) = found(posts_of([*rows, (9, "new")]), one_review)[-1:]
    assert 0 < few["spam"] < 0.5


@pytest.mark.parametrize("source", ["appeal", "targeted"])
def test_what_was_no_draw_says_nothing_of_a_rate(source: str) -> None:
    posts = posts_of([(0, "b1"), (9, "b1")])
    assert found(posts, outcomes_of([(0, 0, "confirm_removal", 3, 0)]))[-1]["spam"] > 0
    assert found(posts, outcomes_of([(0, 0, "confirm_removal", 3, 0)], source)) == [{}, {}]
    assert found(posts, outcomes_of([(0, 0, "confirm_removal", 3, 0)]).assign(inclusion_prob=None)) == [{}, {}]
    rows = [(0, 0, "confirm_removal", 3, 0), (1, 0, "restore", 4, 0)]
    half = outcomes_of(rows).assign(inclusion_prob=[0.5, None])
    three = posts_of([(0, "b1"), (0, "b1"), (9, "b1")])
    assert found(three, half) == found(three, half[:1]) != [{}, {}, {}]


def test_a_rate_of_all_times_is_noticed(monkeypatch) -> None:
    """Knowing a context's later reviews is the leak; the replay tells it from the truth."""
    posts, outcomes = posts_of([(0, "b1"), (9, "b1")]), outcomes_of([(0, 0, "confirm_removal", 20, 0)])
    assert [replayed(post, posts, outcomes) for post in posts.to_dict("records")] == [None, None]
    assert found(posts, outcomes) == [{}, {}]
    early = history._verdicts_over_time
    monkeypatch.setattr(history, "_verdicts_over_time", lambda *both: early(*both).assign(reviewed_at=at(-1)))
    assert found(posts, outcomes) != [{}, {}]
