"""Batches on their way to a model: which rows, in which order, cut to what fits, and made ahead where a device would wait for them."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from upheld.training.loop.examples import Rows

BATCHES_PER_CHUNK = 16  # length-sorted together: enough to halve the padding, few enough to keep batches random
MAX_WORKERS = 8  # processes that make batches for one device
AHEAD = 4  # batches that each of them has ready

Inputs = dict[str, torch.Tensor]
Forward = Callable[[Inputs], torch.Tensor]  # keyword arguments of the model, on its device -> what it returns


@dataclass(frozen=True)
class Batches:
    """N rows to learn from, which the loop puts into batches, at least one.

    `costs` int64 (N,), what a row costs to compute (tokens, pictures): rows of like cost share a batch. `inputs(rows, seed)` is what the
    model and the loss need of some rows, on the CPU, made in another process where a device would wait for it; augmentation, if any,
    follows from the seed. `loss(forward, inputs)` is a scalar summed over those rows. `weight(rows)` is what that sum is divided by for
    the gradient of a whole batch. `names` are what an error calls the rows.
    """

    costs: Rows
    inputs: Callable[[Rows, int], Inputs]
    loss: Callable[[Forward, Inputs], torch.Tensor]
    weight: Callable[[Rows], float]
    names: Sequence[str]


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


def micro_batches(rows: Rows, costs: Rows, most: int) -> list[Rows]:
    """Cut a batch into parts that are computed one after another.

    Args:
        rows: of the batch, at least one.
        costs: int64 (N,) of all rows.
        most: a part's number of rows times its greatest cost, which is what it takes up once padded; a single row may be more.

    Returns:
        the parts, whose rows one after another are `rows`.
    """
    parts, start = [], 0
    for stop in range(1, len(rows)):
        if (stop + 1 - start) * costs[rows[start : stop + 1]].max() > most:
            parts.append(rows[start:stop])
            start = stop
    return [*parts, rows[start:]]


class _Parts(Dataset[Inputs]):
    """Parts of batches by number."""

    def __init__(self, train: Batches, parts: Sequence[tuple[Rows, int]]) -> None:
        self._train, self._parts = train, parts

    def __len__(self) -> int:
        return len(self._parts)

    def __getitem__(self, number: int) -> Inputs:
        return self._train.inputs(*self._parts[number])


def num_workers(device: torch.device) -> int:
    """Processes that make batches: none for a CPU, which has nothing to do while it waits."""
    return min(MAX_WORKERS, len(os.sched_getaffinity(0)) - 1) if device.type == "cuda" else 0


def loaded(train: Batches, parts: Sequence[tuple[Rows, int]], device: torch.device) -> Iterator[Inputs]:
    """Inputs of parts of batches, on the device, in order.

    Args:
        train: makes them.
        parts: rows and seed of each.
        device: where to; copies to a GPU come from pinned memory and are not waited for.
    """
    on_gpu, workers = device.type == "cuda", num_workers(device)
    ahead: dict[str, Any] = {"prefetch_factor": AHEAD} if workers else {}
    loader = DataLoader(_Parts(train, parts), batch_size=None, num_workers=workers, pin_memory=on_gpu, **ahead)
    for inputs in loader:
        yield {name: tensor.to(device, non_blocking=on_gpu) for name, tensor in inputs.items()}
