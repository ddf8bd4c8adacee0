"""Contents that no post has any more leave the feature store, and what was derived from them does, too."""

import pyarrow as pa

from feature_store.feature_contents import contents
from feature_store.feature_table import FeatureStore
from feature_store.ledger import Ledger


def erase_forgotten(ledger: Ledger, features: FeatureStore) -> dict[str, int]:
    """Delete every content of which the ledger has no accepted post: a tombstone's, unless another post has the same.

    Keyframes go with their video: they count as a post's only as long as a post has the video.

    Args:
        ledger: says what posts there are.
        features: what is cleaned; it belongs to this ledger alone.

    Returns:
        table -> number of contents deleted.

    Raises:
        FailedWork: a run holds an older version of a table; the next call goes on.
    """
    names = list(features.versions)
    if not names:
        return {}
    kinds = (contents(ledger, features, "text"), contents(ledger, features, "image"), contents(ledger, features, "audio"))
    living = pa.chunked_array([chunk for table in kinds for chunk in table["digest"].chunks], pa.string())
    return features.keep_only(living)
