"""Recomputed video by video, with explicit masks."""

import numpy as np
import pandas as pd
import pytest

from upheld.feature_store.extractors.video.frame_aggregate import per_video

FRAMES = pd.DataFrame(
    {
        "video": ["b", "a", "a", "b", "a", "c"],
        "prob_spam": [0.2, 0.9, 0.5, 0.4, np.nan, np.nan],
        "prob_hate": [0.0, 0.1, 0.2, 0.3, 0.6, np.nan],
    }
)


def test_mean_highest_and_votes_of_each_video() -> None:
    table = per_video(FRAMES, "video", ["prob_spam", "prob_hate"], 0.5).set_index("video")
    assert table.index.tolist() == ["a", "b", "c"]
    for video in ("a", "b"):
        for column in ("prob_spam", "prob_hate"):
            values = [value for name, value in zip(FRAMES["video"], FRAMES[column], strict=True) if name == video and not np.isnan(value)]
            assert table.loc[video, f"{column}_mean"] == pytest.approx(sum(values) / len(values))
            assert table.loc[video, f"{column}_max"] == max(values)
            assert table.loc[video, f"{column}_vote"] == pytest.approx(sum(value >= 0.5 for value in values) / len(values))
            assert table.loc[video, f"{column}_frames"] == len(values)


def test_a_video_without_a_result_keeps_nulls() -> None:
    row = per_video(FRAMES, "video", ["prob_spam"], 0.5).set_index("video").loc["c"]
    assert row[["prob_spam_mean", "prob_spam_max", "prob_spam_vote"]].isna().all()
    assert row["prob_spam_frames"] == 0


def test_order_of_rows_does_not_matter() -> None:
    shuffled = FRAMES.sample(frac=1, random_state=3)
    pd.testing.assert_frame_equal(per_video(FRAMES, "video", ["prob_hate"], 0.2), per_video(shuffled, "video", ["prob_hate"], 0.2))
