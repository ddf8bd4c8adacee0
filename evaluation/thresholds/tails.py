"""What lies at or above, and below, every possible threshold of one category."""

from typing import NamedTuple

import numpy as np

from upheld.common.arrays import Floats, Ints
from upheld.evaluation.cube.bins import NUM_BINS, snap_up
from upheld.evaluation.cube.cube import LABELS, ZONES, Cube, Moment, dense


class Tails(NamedTuple):
    """Sums over the bins at or above each threshold, float64 (4097,): threshold k is the lower edge of bin k, 4096 is above everything.

    num_posts: rows of the frame, labelled or not.
    num_labels, w, w2: labelled rows, and sums of their weights and squared weights.
    w_violations, w2_violations: the same sums over labelled violations.
    max_weight_above, max_weight_below: largest frame weight at or above, and below, the threshold; 0 where the frame has no row there.
    """

    num_posts: Floats
    num_labels: Floats
    w: Floats
    w2: Floats
    w_violations: Floats
    w2_violations: Floats
    max_weight_above: Floats
    max_weight_below: Floats

    def volume_at(self, threshold: float) -> float:
        """Posts at or above a threshold."""
        return float(self.num_posts[snap_up(threshold)])


def tails(cube: Cube) -> Tails:
    """Sum a cube of one category from the top.

    Raises:
        ValueError: the cube holds another number of categories than one.
    """
    if len(cube.categories) != 1:
        raise ValueError(f"expected a cube of one category, got {len(cube.categories)}; take it out with one_category")
    by_zone = dense(cube, ("zone", "label", "bin"))
    counts = by_zone.sum(axis=0)
    above: Floats = np.zeros((len(LABELS), NUM_BINS + 1, counts.shape[-1]))
    above[:, :-1] = counts[:, ::-1].cumsum(axis=1)[:, ::-1]
    labelled = above[LABELS.index("0")] + above[LABELS.index("1")]
    violations = above[LABELS.index("1")]
    # Largest weight of the zones that have a row at or above, and below, each threshold.
    nothing = np.zeros((len(ZONES), 1))
    occupied = np.concatenate([nothing, by_zone[..., Moment.N].sum(axis=1) > 0], axis=1)
    seen_below = np.maximum.accumulate(occupied, axis=1)
    seen_above = np.concatenate([np.maximum.accumulate(occupied[:, ::-1], axis=1)[:, ::-1][:, 1:], nothing], axis=1)
    max_above, max_below = ((seen * cube.frame_max_weight[0][:, None]).max(axis=0) for seen in (seen_above, seen_below))
    num_posts = above[..., Moment.N].sum(axis=0)
    return Tails(
        num_posts=num_posts,
        num_labels=labelled[:, Moment.N],
        w=labelled[:, Moment.W],
        w2=labelled[:, Moment.W2],
        w_violations=violations[:, Moment.W],
        w2_violations=violations[:, Moment.W2],
        max_weight_above=max_above,
        max_weight_below=max_below,
    )


def candidate_bins(volume_above: Floats, volumes: Floats) -> Ints:
    """Thresholds known from unlabelled scores: the bin at which at most each wanted volume lies above.

    Args:
        volume_above: float64 (4096,), posts of the frame at or above each bin; does not rise with the bin.
        volumes: float64 (J,), wanted volumes in posts.

    Returns:
        int64 (J,): the highest bin that holds as much as any bin with no more than the wanted volume; 4096 where none above is occupied.
    """
    padded = np.append(volume_above, 0.0)
    # volume_above falls with the bin, so its negative is sorted; the first bin with volume <= wanted:
    first = np.searchsorted(-padded, -np.asarray(volumes), side="left")
    return np.searchsorted(-padded, -padded[first], side="right") - 1
