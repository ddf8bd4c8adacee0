"""Groups: connected components recomputed by repeated merging of explicit sets."""

import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from upheld.common.params.data import Splits
from upheld.feature_store.splits.groups import MIN_GROUP_SIZE, group

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


def posts_of(rows: list[dict]) -> pd.DataFrame:
    start = pd.Timestamp("2026-09-01", tz="UTC")
    defaults = {"text": "", "image_digests": [], "audio_digests": [], "sound_digests": [], "author_id": None, "context_id": None}
    table = [{"post_id": f"p{n:04}", "created_at": start + pd.Timedelta(minutes=n), **defaults, **row} for n, row in enumerate(rows)]
    return pd.DataFrame(table)


def members(posts: pd.DataFrame) -> set[frozenset[str]]:
    return {frozenset(rows["post_id"]) for _, rows in group(posts, PARAMS).posts.groupby("group_id")}


def components(rows: list[dict]) -> set[frozenset[str]]:
    """Merge sets that share a key until none do."""
    sets = [({f"p{n:04}"}, {*[("m", d) for d in row["image_digests"]], ("a", row["author_id"])}) for n, row in enumerate(rows)]
    merged = True
    while merged:
        merged = False
        for i in range(len(sets)):
            for j in range(i + 1, len(sets)):
                if {key for key in sets[i][1] if key[1]} & sets[j][1]:
                    sets[i] = (sets[i][0] | sets[j][0], sets[i][1] | sets[j][1])
                    del sets[j]
                    merged = True
                    break
            if merged:
                break
    return {frozenset(names) for names, _ in sets}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "image_digests": st.lists(st.sampled_from("ABCDEFGH"), max_size=2, unique=True),
                "author_id": st.none() | st.sampled_from(["u1", "u2", "u3", "u4", "u5"]),
            }
        ),
        min_size=1,
        max_size=MIN_GROUP_SIZE,  # no key is too common here
    ),
    st.integers(0, 1000),
)
def test_groups_are_the_connected_components(rows: list[dict], seed: int) -> None:
    posts = posts_of(rows)
    assert members(posts) == components(rows)
    pd.testing.assert_frame_equal(group(posts.sample(frac=1, random_state=seed), PARAMS).posts, group(posts, PARAMS).posts)


def test_each_key_groups() -> None:
    rows = [
        {"text": "the same words in both, more or less"},
        {"text": "The same words in both -- more or less!!"},
        {"image_digests": ["d1"]},
        {"image_digests": ["d0", "d1"]},
        {"author_id": "u1"},
        {"author_id": "u1"},
        {"context_id": "c1"},
        {"context_id": "c1"},
        {},
    ]
    pairs = [{"p0000", "p0001"}, {"p0002", "p0003"}, {"p0004", "p0005"}, {"p0006", "p0007"}, {"p0008"}]
    assert members(posts_of(rows)) == {frozenset(pair) for pair in pairs}


def test_content_is_told_apart_from_company() -> None:
    found = group(posts_of([{"text": "one two three", "author_id": "u1"}, {"author_id": "u1"}, {"text": "ONE two three."}]), PARAMS).posts
    assert found["group_id"].tolist() == ["p0000"] * 3
    assert found["content_id"].tolist() == ["p0000", "p0001", "p0000"]


def test_too_common_keys_span_and_are_counted() -> None:
    rows = [{"context_id": "board", "author_id": f"u{n // 2}", "image_digests": ["meme"] if n < 50 else []} for n in range(1000)]
    found = group(posts_of(rows), PARAMS)
    assert found.spanning == {
        "exact_text": 0,
        "near_text": 0,
        "image_digest": 1,
        "audio_digest": 0,
        "near_image": 0,
        "near_sound": 0,
        "author_id": 0,
        "context_id": 1,
    }
    assert set(found.posts.groupby("group_id").size()) == {2}  # authors still hold together
    small = group(posts_of([row | {"context_id": f"c{n // 10}"} for n, row in enumerate(rows)]), PARAMS)
    assert set(small.posts.groupby("group_id").size()) == {10}


def test_chains_do_not_grow_without_bound() -> None:
    """Each context shares an author with the next one: linked without limit, all posts would be one group."""
    rows = [{"context_id": f"c{n // 10}", "author_id": f"u{(n + 1) // 10}"} for n in range(1000)]
    found = group(posts_of(rows), PARAMS)
    sizes = found.posts.groupby("group_id").size()
    assert sizes.max() <= 50
    assert found.spanning["context_id"] > 0
