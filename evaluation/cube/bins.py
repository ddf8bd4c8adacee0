"""The score bins that cubes, thresholds and routing share: 4096 on the logit scale over (-12, 12).

Uniform bins of the probability would put 13 % of all posts in the first one (docs/statistics.md, Score cube).
"""

from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from upheld.common.arrays import Floats
from upheld.feature_store.contracts.tables import LOGIT_LIMIT

NUM_BINS = 4096


@cache
def edges() -> Floats:
    """Lower edges of the bins, float64 (4096,), read-only: 0, then the sigmoid of a regular grid. Thresholds are among them."""
    grid = -LOGIT_LIMIT + 2 * LOGIT_LIMIT / NUM_BINS * np.arange(NUM_BINS)
    result: Floats = 1 / (1 + np.exp(-grid))
    result[0] = 0.0  # everything below -12 belongs to the first bin
    result.flags.writeable = False
    return result


@cache
def centres() -> Floats:
    """A probability that stands for each bin, float64 (4096,), read-only: the sigmoid of the middle of its logits."""
    grid = -LOGIT_LIMIT + 2 * LOGIT_LIMIT / NUM_BINS * (np.arange(NUM_BINS) + 0.5)
    result: Floats = 1 / (1 + np.exp(-grid))
    result.flags.writeable = False
    return result


def bin_of(prob: ArrayLike) -> NDArray[np.int64]:
    """Bin of each probability.

    Args:
        prob: (N,) in [0, 1].

    Returns:
        int64 (N,) in [0, 4095]: the last bin whose lower edge is <= prob. So prob >= edges()[k] exactly where bin_of(prob) >= k,
        and a threshold on an edge routes the same on bins as on probabilities.
    """
    probs = np.asarray(prob, np.float64)
    clipped = np.clip(probs, 1e-7, 1 - 1e-7)
    guess = ((np.log(clipped / (1 - clipped)) + LOGIT_LIMIT) * (NUM_BINS / (2 * LOGIT_LIMIT))).astype(np.int64)
    np.clip(guess, 0, NUM_BINS - 1, out=guess)
    # The logarithm rounds; the edges decide. One step either way is enough.
    lower = edges()
    guess -= probs < lower[guess]
    guess += probs >= np.append(lower[1:], np.inf)[guess]
    return guess


def snap_up(threshold: float) -> int:
    """The first bin whose lower edge is >= threshold; NUM_BINS, at or above which there is nothing, where no edge is."""
    return int(np.searchsorted(edges(), threshold, side="left"))
