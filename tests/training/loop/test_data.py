"""Targets laid out as matrices, and the order of batches."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upheld.training.loop.batches import epoch_batches, micro_batches, share_of_batch
from upheld.training.loop.examples import targets_of

EXAMPLES = pd.DataFrame(
    {
        "post_id": ["b", "a", "b", "c"],
        "category": ["spam", "hate_speech", "hate_speech", "spam"],
        "label": pd.array([1.0, 0.25, None, 0.0], "Float32"),
        "weight": [0.5, 1.0, 1.0, 2.0],
    }
)


def test_targets_go_by_key() -> None:
    targets, weights = targets_of(EXAMPLES, ["c", "a", "b", "none"], ["spam", "hate_speech"])
    assert targets.tolist() == [[0.0, 0.0], [0.0, 0.25], [1.0, 0.0], [0.0, 0.0]]
    assert weights.tolist() == [[2.0, 0.0], [0.0, 1.0], [0.5, 0.0], [0.0, 0.0]]


def test_two_labels_for_a_cell_are_refused() -> None:
    with pytest.raises(ValueError, match="non-unique"):
        targets_of(pd.concat([EXAMPLES, EXAMPLES]), ["a"], ["spam"])


@given(st.lists(st.integers(1, 128), min_size=1, max_size=400), st.integers(1, 40), st.integers(0, 9))
def test_every_row_is_met_once(costs: list[int], batch_size: int, epoch: int) -> None:
    batches = epoch_batches(np.array(costs), batch_size, seed=7, epoch=epoch)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(costs)))
    assert len(batches) == -(-len(costs) // batch_size)


def test_batches_hold_rows_of_like_cost_and_change_by_epoch() -> None:
    costs = np.random.default_rng(0).integers(5, 128, 4096)
    first, again, second = (epoch_batches(costs, 16, 1, epoch) for epoch in (0, 0, 1))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert not all((a == b).all() for a, b in zip(first, second, strict=True))
    padded = sum(len(rows) * costs[rows].max() for rows in first)
    assert padded < 1.15 * costs.sum()  # at random it is twice the sum


@given(st.lists(st.integers(1, 128), min_size=1, max_size=40), st.integers(1, 600))
def test_a_batch_is_cut_into_parts_that_fit_once_padded(costs: list[int], most: int) -> None:
    rows = np.arange(len(costs))[::-1]
    parts = micro_batches(rows, np.array(costs), most)
    assert np.concatenate(parts).tolist() == rows.tolist()
    padded = [len(part) * max(costs[row] for row in part) for part in parts]
    assert all(size <= most or len(part) == 1 for size, part in zip(padded, parts, strict=True))
    for part, after in itertools.pairwise(parts):  # none is cut short
        assert (len(part) + 1) * max(costs[row] for row in [*part, after[0]]) > most


@pytest.mark.parametrize("num_rows", [1, 3, 16])
def test_processes_share_a_batch(num_rows: int) -> None:
    rows = np.arange(100, 100 + num_rows)
    shares = [share_of_batch(rows, process, 4) for process in range(4)]
    assert all(len(share) for share in shares)
    assert sorted(np.concatenate(shares[:num_rows]).tolist()) == rows.tolist()
