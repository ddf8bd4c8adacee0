"""What classifiers learn from: targets from a snapshot's tables."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from upheld.feature_store.contracts.snapshot import Snapshot

Array = NDArray[np.float32]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Examples:
    """N labelled posts as a classifier learns from them.

    `post_ids` name them; `targets` float32 (N, C) in [0, 1] and `weights` float32 (N, C), 0 where the label is unknown; `costs` int64
    (N,), what a row costs to compute (tokens, images): rows of like cost share a batch; `inputs(rows, seed)` gives the model's keyword
    arguments for some rows; augmentation, if any, follows from the seed.
    """

    post_ids: Sequence[str]
    targets: Array
    weights: Array
    costs: Rows
    inputs: Callable[[Rows, int], dict[str, torch.Tensor]]


def labelled_posts(snapshot: Snapshot, split: str, policies: Sequence[str]) -> pd.DataFrame:
    """Posts of a split with at least one known label for one of the policies, in order of post_id."""
    examples = snapshot.examples
    known = examples[(examples.split == split) & examples.label.notna() & examples.category.isin(policies)]
    return snapshot.posts[snapshot.posts.post_id.isin(known.post_id)].sort_values("post_id", ignore_index=True)


def targets_of(examples: pd.DataFrame, post_ids: Sequence[str], policies: Sequence[str]) -> tuple[Array, Array]:
    """Lay labels out as matrices.

    Args:
        examples: columns post_id, category, label (float in [0, 1], null for unknown), weight (> 0); one row a post and category.
        post_ids: the N rows wanted, unique.
        policies: the C columns wanted.

    Returns:
        targets and weights, float32 (N, C); both 0 where there is no label.

    Raises:
        ValueError: a post and category has two rows.
    """
    known = examples[examples.label.notna()].set_index(["post_id", "category"])
    wanted = pd.MultiIndex.from_product([list(post_ids), list(policies)])
    cells = known[["label", "weight"]].reindex(wanted).fillna(0).to_numpy(np.float32)  # raises on two rows for a cell
    targets, weights = cells.T.reshape(2, len(post_ids), len(policies)).copy()
    return targets, weights
