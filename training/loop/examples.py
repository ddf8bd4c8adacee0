"""What classifiers learn from: targets from a snapshot's tables; and the order in which rows meet a model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from upheld.feature_store.contracts.snapshot import Snapshot

Array = NDArray[np.float32]
Rows = NDArray[np.int64]
BATCHES_PER_CHUNK = 16  # length-sorted together: enough to halve the padding, few enough to keep batches random


@dataclass(frozen=True)
class Examples:
    """N labelled posts as a classifier learns from them.

    `targets` float32 (N, C) in [0, 1] and `weights` float32 (N, C), 0 where the label is unknown; `costs` int64 (N,), what a
    row costs to compute (tokens, images): rows of like cost share a batch; `inputs(rows, seed)` gives the model's keyword
    arguments for some rows; augmentation, if any, follows from the seed.
    """

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


def epoch_batches(costs: Rows, batch_size: int, seed: int, epoch: int) -> list[Rows]:
    """Every row once, in batches of rows of like cost, in an order that depends on seed and epoch alone.

    Rows are shuffled, sorted by cost within chunks of a few batches, and the batches shuffled again.

    Returns:
        batches of row numbers, each of `batch_size` rows but one that may be smaller.
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(costs))
    chunk = batch_size * BATCHES_PER_CHUNK
    batches = []
    for start in range(0, len(order), chunk):
        rows = order[start : start + chunk]
        rows = rows[np.argsort(costs[rows], kind="stable")]
        batches += [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
    return [batches[i] for i in random.permutation(len(batches))]


def share_of_batch(rows: Rows, process: int, num_processes: int) -> Rows:
    """The rows of a batch that one of several processes computes: every num_processes-th, at least one in each process.

    A process left without a row gets the batch's first, which the loop gives no weight there.
    """
    mine = rows[process::num_processes]
    return mine if len(mine) else rows[:1]
