"""Contents that no post has any more leave the feature store, and what was derived from them does, too."""

from pathlib import Path

import pyarrow as pa

from upheld.feature_store.extraction.contents import PostContents
from upheld.feature_store.features import shards
from upheld.feature_store.features.table import FeatureStore


def erase_forgotten(known: PostContents, features: FeatureStore, decoded: Path) -> dict[str, int]:
    """Delete every content of which the ledger has no accepted post: a tombstone's, unless another post has the same.

    Keyframes go with their video: they count as a post's only as long as a post has the video.

    Args:
        known: what the posts of the ledger have.
        features: what is cleaned; it belongs to that ledger alone.
        decoded: the store's folder of decoded arrays, cleaned alike.

    Returns:
        table -> number of contents deleted.

    Raises:
        FailedWork: a run holds an older version of a table; the next call goes on.
    """
    if not features.versions and not decoded.exists():
        return {}
    kinds = [known.of("text"), known.of("image"), known.of("audio")]  # videos are among the last
    living = pa.chunked_array([chunk for table in kinds for chunk in table["digest"].chunks], pa.string())
    shards.keep_only(decoded, living.to_pylist())
    return features.keep_only(living)
