"""Prior removals against a replay of each author's history, outcome by outcome."""

import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from upheld.feature_store.posts import history
from upheld.feature_store.posts.history import prior_removals


def at(hour: int) -> pd.Timestamp:
    return pd.Timestamp("2026-09-01", tz="UTC") + pd.Timedelta(hours=hour)


def posts_of(rows: list[tuple[int, str | None]]) -> pd.DataFrame:
    names = [f"p{number}" for number in range(len(rows))]
    table = pd.DataFrame({"post_id": names, "created_at": [at(hour) for hour, _ in rows], "author_id": [author for _, author in rows]})
    return table.astype({"author_id": "str"})


def outcomes_of(rows: list[tuple[int, int, str, int, int]]) -> pd.DataFrame:
    """post, outcome, verdict, hour, revision."""
    table = [(f"o{post}/{n}", rev, f"p{post}", "spam", verdict, at(hour)) for post, n, verdict, hour, rev in rows]
    columns = ["outcome_id", "revision", "post_id", "category", "verdict", "reviewed_at"]
    return pd.DataFrame(table, columns=columns).astype({"reviewed_at": "datetime64[us, UTC]", "post_id": "str"})


def replayed(posts: pd.DataFrame, outcomes: pd.DataFrame) -> dict[str, int]:
    """For each post: take the outcomes reviewed before it was made, the last revision of each, and count by hand."""
    authors = {row["post_id"]: row["author_id"] for row in posts.to_dict("records")}
    found = {}
    for post in posts.to_dict("records"):
        said: dict[str, tuple[int, str, str]] = {}
        for row in outcomes.sort_values("revision").to_dict("records"):
            if row["reviewed_at"] < post["created_at"] and authors[row["post_id"]] == post["author_id"]:
                said[row["outcome_id"]] = (row["revision"], row["post_id"], row["verdict"])
        balance: dict[str, int] = {}
        for _, name, verdict in said.values():
            balance[name] = balance.get(name, 0) + {"confirm_removal": 1, "restore": -1, "escalate": 0}[verdict]
        found[post["post_id"]] = sum(value > 0 for value in balance.values()) if isinstance(post["author_id"], str) else 0
    return found


def counted(posts: pd.DataFrame, outcomes: pd.DataFrame) -> dict[str, int]:
    return prior_removals(posts, outcomes, posts.set_index("post_id")["author_id"]).to_dict()


POSTS = st.lists(st.tuples(st.integers(0, 30), st.none() | st.sampled_from(["u1", "u2"])), min_size=1, max_size=8)
VERDICTS = st.sampled_from(["confirm_removal", "restore", "escalate"])


@settings(max_examples=40, deadline=None)
@given(st.data(), POSTS)
def test_counts_what_was_known_when_the_post_was_made(data: st.DataObject, rows: list) -> None:
    one = st.tuples(st.integers(0, len(rows) - 1), st.integers(0, 2), VERDICTS, st.integers(0, 40))
    drawn = data.draw(st.lists(one, max_size=12))
    drawn.sort(key=lambda row: row[3])
    times: dict[tuple[int, int], int] = {}
    outcomes = []
    for post, number, verdict, hour in drawn:  # a further row of the same outcome is a correction
        revision = times[post, number] = times.get((post, number), -1) + 1
        outcomes.append((post, number, verdict, hour, revision))
    posts, table = posts_of(rows), outcomes_of(outcomes)
    assert counted(posts, table) == replayed(posts, table)
    assert counted(posts, table.sample(frac=1, random_state=1)) == replayed(posts, table)


def test_a_verdict_of_the_same_moment_or_later_is_not_known_yet() -> None:
    posts = posts_of([(0, "u1"), (5, "u1"), (6, "u1")])
    assert counted(posts, outcomes_of([(0, 0, "confirm_removal", 5, 0)])) == {"p0": 0, "p1": 0, "p2": 1}


def test_a_correction_counts_from_its_own_time_on() -> None:
    posts = posts_of([(0, "u1"), (3, "u1"), (9, "u1")])
    outcomes = outcomes_of([(0, 0, "confirm_removal", 2, 0), (0, 0, "restore", 6, 1)])
    assert counted(posts, outcomes) == {"p0": 0, "p1": 1, "p2": 0}


def test_an_index_without_the_guard_is_noticed(monkeypatch) -> None:
    """Counting an author's removals of all times is the leak; the replay tells it from the truth."""
    posts = posts_of([(0, "u1"), (1, "u1")])
    outcomes = outcomes_of([(0, 0, "confirm_removal", 30, 0)])
    assert counted(posts, outcomes) == replayed(posts, outcomes)
    early = history._removals_over_time
    monkeypatch.setattr(history, "_removals_over_time", lambda rows, authors: early(rows, authors).assign(reviewed_at=at(-1)))
    assert counted(posts, outcomes) != replayed(posts, outcomes)
