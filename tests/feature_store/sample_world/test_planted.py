"""What is planted in the sample world, and that the rest of it stands as without."""

from pathlib import Path

import pandas as pd
import pytest

from upheld.common.params import params
from upheld.feature_store.sample_world import posts
from upheld.feature_store.sample_world.planted import BOARD_POLICY, BOARDS, JOINT_POLICY

SETTINGS = params.load(Path(__file__).parents[3] / "params.yaml").sample_data
WEEK = posts.Week(11, 1, posts.monday_of("2026-W36"))


def written(share: float) -> posts.Posts:
    return posts.write(WEEK, SETTINGS.model_copy(update={"share_planted": share}), 900)


@pytest.fixture(scope="module")
def both() -> tuple[posts.Posts, posts.Posts, set[str]]:
    without, made = written(0.0), written(0.4)
    changed = without.posts.merge(made.posts, on="post_id")
    shown = [
        [side.media[item["uri"]] for item in media]
        for side, column in ((without, "media_x"), (made, "media_y"))
        for media in changed[column]
    ]
    same = changed.text_x.eq(changed.text_y) & pd.Series(shown[: len(changed)]).eq(pd.Series(shown[len(changed) :]))
    return without, made, set(changed.post_id[~same])


def test_other_posts_are_the_same_with_and_without(both) -> None:
    without, made, planted = both
    assert 0.3 < len(planted) / len(made.posts) < 0.5
    for table in ("posts", "truth", "pictures"):
        ours, theirs = (getattr(one, table) for one in (without, made))
        rest = [frame[~frame.post_id.isin(planted)].reset_index(drop=True) for frame in (ours, theirs)]
        pd.testing.assert_frame_equal(*rest)
    uris = {item["uri"] for media in made.posts.media for item in media}
    assert uris == set(made.media)


def test_one_picture_stands_on_two_boards_with_two_truths(both) -> None:
    _, made, planted = both
    shown = made.posts[made.posts.post_id.isin(planted) & made.posts.context_id.isin(list(BOARDS))]
    shown = shown.assign(picture=[made.media[media[0]["uri"]] for media in shown.media])
    label = made.truth[made.truth.category == BOARD_POLICY].set_index("post_id").label
    violence = shown[shown.post_id.map(label).eq(shown.context_id.map(BOARDS).astype(int))]
    twice = violence.groupby("picture").context_id.nunique()
    assert (twice == 2).sum() > 10
    assert set(violence.context_id.map(BOARDS)) == {True, False}


def test_neither_text_nor_picture_of_a_joint_violation_breaks_a_policy_alone(both) -> None:
    _, made, planted = both
    truth = made.truth[(made.truth.category == JOINT_POLICY) & made.truth.post_id.isin(planted)]
    assert set(truth.stance) == {"veiled", "borderline", "none"}
    assert truth.label.eq(truth.stance.eq("veiled")).all()
    others = made.truth[made.truth.post_id.isin(truth.post_id[truth.stance != "none"]) & (made.truth.category != JOINT_POLICY)]
    assert not others.label.any()
