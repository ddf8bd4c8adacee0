"""Splits over random worlds: the properties that keep an evaluation honest, each recomputed by a plain loop."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upheld.common.params.data import Splits
from upheld.feature_store.splits import assignment

PARAMS = Splits(
    calib_share=0.2,
    test_share=0.15,
    val_share=0.15,
    fusion_share=0.15,
    max_group_share=0.01,
    max_linked_share=0.05,
    min_text_similarity=0.7,
    max_picture_distance=31,
)
LEARNED = ("train", "val", "fusion")
WINDOWS = ("development", "calib", "test")


def world(rows: list[tuple[str, int, int, str | None, bool]]) -> pd.DataFrame:
    """Rows: window, author, text, learned_as, is_labelled. Posts with the same text are one content, with the same author one group."""
    first_of_author: dict[int, str] = {}
    first_of_text: dict[int, str] = {}
    author_of_text: dict[int, int] = {}
    table = []
    for number, (window, author, text, learned_as, is_labelled) in enumerate(rows):
        name = f"p{number:04}"
        owner = author_of_text.setdefault(text, author)  # one text, one author: so groups contain contents
        table.append(
            {
                "post_id": name,
                "window": window,
                "is_labelled": is_labelled,
                "stratum": f"{'de' if owner % 3 else 'en'} spam={text % 2}",
                "content_id": first_of_text.setdefault(text, name),
                "group_id": first_of_author.setdefault(owner, name),
                "learned_as": learned_as,
            }
        )
    return pd.DataFrame(table).astype({"learned_as": object})


def leaks(posts: pd.DataFrame, assigned: pd.DataFrame) -> list[str]:
    """What is wrong with an assignment, by loops over its rows."""
    rows = posts.merge(assigned, on="post_id").to_dict("records")
    placed = [row for row in rows if isinstance(row["split"], str)]
    found = []
    split_of_group: dict[str, str] = {}
    for row in placed:
        if split_of_group.setdefault(row["group_id"], row["split"]) != row["split"]:
            found.append(f"group {row['group_id']} in two splits")
        if (row["split"] if row["split"] not in LEARNED else "development") != row["window"]:
            found.append(f"{row['post_id']} out of its window")
        if isinstance(row["learned_as"], str) and row["learned_as"] != row["split"]:
            found.append(f"{row['post_id']} changed its split")
    seen = {row["content_id"] for row in posts.to_dict("records") if isinstance(row["learned_as"], str)}
    found += [f"{row['post_id']} copies a seen post" for row in placed if row["split"] in ("calib", "test") and row["content_id"] in seen]
    found += [f"{row['post_id']} lost" for row in rows if isinstance(row["split"], str) == isinstance(row["reason"], str)]
    return found


ROWS = st.lists(
    st.tuples(
        st.sampled_from(WINDOWS), st.integers(0, 12), st.integers(0, 30), st.sampled_from([None, None, None, *LEARNED]), st.booleans()
    ),
    min_size=1,
    max_size=60,
)


@settings(max_examples=80, deadline=None)
@given(ROWS, st.integers(0, 1000))
def test_no_leak_in_any_world_nor_order(rows: list, seed: int) -> None:
    posts = world(rows)
    assigned = assignment.assign(posts, PARAMS, "key")
    assert leaks(posts, assigned) == []
    expected = posts.loc[posts["is_labelled"] | posts["learned_as"].isna(), "post_id"]
    assert assigned["post_id"].tolist() == expected.tolist()
    shuffled = assignment.assign(posts.sample(frac=1, random_state=seed), PARAMS, "key")
    pd.testing.assert_frame_equal(assigned, shuffled)


def big_world(num_posts: int = 3000) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    windows = rng.choice(WINDOWS, num_posts, p=[0.65, 0.2, 0.15])
    learned = np.where((rng.random(num_posts) < 0.2), rng.choice(LEARNED, num_posts), None)
    authors, texts = rng.integers(0, 600, num_posts), rng.integers(0, 2000, num_posts)
    return world([(str(w), int(a), int(t), k, True) for w, a, t, k in zip(windows, authors, texts, learned, strict=True)])


@pytest.mark.parametrize("blind_to", ["groups", "copies", "membership"])
def test_a_guard_taken_away_is_noticed(blind_to: str) -> None:
    """The same code, kept from seeing one of the things it guards against, leaks; and `leaks` sees it."""
    posts = big_world()
    assert leaks(posts, assignment.assign(posts, PARAMS, "key")) == []
    blinded = {
        "groups": posts.assign(group_id=posts["post_id"]),
        "copies": posts.assign(content_id=posts["post_id"]),
        "membership": posts.assign(learned_as=None),
    }[blind_to]
    assert leaks(posts, assignment.assign(blinded, PARAMS, "key")) != []


def test_strata_get_their_shares_to_within_one_post() -> None:
    """Posts on their own, no history: every stratum is cut as exactly as whole posts allow."""
    rng = np.random.default_rng(1)
    posts = world([("development", n, n, None, True) for n in range(1000)])
    posts["stratum"] = rng.choice([f"s{n}" for n in range(12)], 1000)
    assigned = posts.merge(assignment.assign(posts, PARAMS, "key"), on="post_id")
    for _, rows in assigned.groupby("stratum"):
        for split, share in (("train", 0.7), ("val", 0.15), ("fusion", 0.15)):
            assert abs((rows["split"] == split).sum() - share * len(rows)) <= 1 + 1e-9


def test_tiny_strata_do_not_all_go_to_training() -> None:
    posts = world([("development", n, n, None, True) for n in range(600)]).assign(stratum=[f"s{n}" for n in range(600)])
    found = assignment.assign(posts, PARAMS, "key")["split"].value_counts(normalize=True)
    assert found["train"] == pytest.approx(0.7, abs=0.06)
    assert found["fusion"] == pytest.approx(0.15, abs=0.05)


def test_windows_keep_like_shares_of_the_groups_that_span_them() -> None:
    rows = [(window, author, 3 * author + n, None, True) for author in range(900) for n, window in enumerate(WINDOWS)]
    kept = assignment.assign(world(rows), PARAMS, "key").merge(world(rows), on="post_id")
    share = kept.groupby("window")["split"].count() / 900
    assert share.to_dict() == pytest.approx({"development": 1 / 3, "calib": 1 / 3, "test": 1 / 3}, abs=0.05)
    assert set(kept.loc[kept["split"].isna(), "reason"]) == {"other_window"}


def test_a_group_on_the_later_side_stays_there() -> None:
    """An author whose posts age into the development window must not be trained on after having tested."""
    whole = world([(window, author, 3 * author + n, None, True) for author in range(300) for n, window in enumerate(WINDOWS)])

    def kept(posts: pd.DataFrame) -> pd.Series:
        rows = assignment.assign(posts, PARAMS, "key").merge(posts, on="post_id").dropna(subset="split")
        return rows.set_index("group_id")["window"]

    first = kept(whole[whole["window"] != "test"])
    later = first.index[first == "calib"]
    assert 100 < len(later) < 200
    assert "development" not in set(kept(whole)[later])


def test_unlabelled_posts_do_not_decide_for_labelled_ones() -> None:
    rows = [("development", a, 2 * a, None, True) for a in range(100)] + [("test", a, 2 * a + 1, None, False) for a in range(100)]
    assigned = assignment.assign(world(rows), PARAMS, "key")
    assert assigned["split"].notna().tolist() == [True] * 100 + [False] * 100


def test_a_known_group_keeps_its_split_and_takes_new_posts_along() -> None:
    rows = [("development", 1, 1, "fusion", True), ("development", 1, 2, None, True), ("development", 1, 3, "train", True)]
    rows += [("development", 1, 4, "fusion", False)]
    assigned = assignment.assign(world(rows), PARAMS, "key")
    assert assigned["split"].tolist()[:2] == ["fusion", "fusion"]
    assert assigned["reason"].tolist()[2] == "other_split"
    assert len(assigned) == 3


@given(st.lists(st.integers(0, 50), min_size=1, max_size=80))
def test_windows_are_in_order_of_time(minutes: list[int]) -> None:
    times = pd.Series(pd.Timestamp("2026-09-01", tz="UTC") + pd.to_timedelta(minutes, unit="min"))
    starts = assignment.boundaries(times, PARAMS)
    found = assignment.windows(times, starts)
    order = [times[found == window] for window in WINDOWS]
    present = [here for here in order if len(here)]
    assert all(early.max() < late.min() for early, late in itertools.pairwise(present))
    assert (found == "test").any()


def test_boundaries_cut_at_the_shares() -> None:
    times = pd.Series(pd.date_range("2026-09-01", periods=1000, freq="min", tz="UTC"))
    found = assignment.windows(times, assignment.boundaries(times, PARAMS)).value_counts()
    assert found.to_dict() == {"development": 650, "calib": 200, "test": 150}
