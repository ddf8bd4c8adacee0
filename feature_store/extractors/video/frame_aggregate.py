"""From results per frame to one per video: the mean, the highest, and how many frames vote for it."""

from collections.abc import Sequence

import pandas as pd


def per_video(frames: pd.DataFrame, key: str, columns: Sequence[str], thr_vote: float) -> pd.DataFrame:
    """Aggregate the frames of each video.

    A frame without a result (null) has no say; a video none of whose frames has one keeps nulls, and 0 frames.

    Args:
        frames: one row per frame: `key`, and `columns` with values in [0, 1] or null. A frame that was picked at two times counts twice.
        key: column that names the video.
        columns: results to aggregate.
        thr_vote: a frame votes for a column where its value >= thr_vote.

    Returns:
        one row per video, in order of `key`: `key`, and for each column `{column}_mean`, `{column}_max`, `{column}_vote` (share of frames
        that vote for it) and `{column}_frames` (how many had a result).
    """
    grouped = frames.groupby(key, sort=True)
    parts = {}
    for column in columns:
        parts[f"{column}_mean"] = grouped[column].mean()
        parts[f"{column}_max"] = grouped[column].max()
        votes = (frames[column] >= thr_vote).astype("float64").where(frames[column].notna())
        parts[f"{column}_vote"] = votes.groupby(frames[key], sort=True).mean()
        parts[f"{column}_frames"] = grouped[column].count()
    return pd.DataFrame(parts).rename_axis(key).reset_index()
