"""The score cube: every weekly metric from weighted counts per score bin (STATISTICS.md, section 7).

Axes: category x language x group x zone x label x bin. Stored sparse (most bins of most cells are empty); `dense` and `cut`
give the arrays that metrics want. Merging days, partitions or workers is a sum, so no report rescans rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import daft
import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
NUM_BINS = 4096
LOGIT_LIMIT = 12.0
AXES = ("category", "language", "group", "zone", "label", "bin")
ZONES = ("auto_remove", "review", "none", "unknown")  # zone of the draw; unknown where the table does not say
LABELS = ("0", "1", "null")
MOMENTS = ("n", "w", "w2", "wp")  # rows, sum of w, of w squared, of w times score; w = 1 / inclusion_prob, and 1 for a null label


@dataclass(frozen=True, eq=False)
class Cube:
    """Weighted counts per cell and score bin.

    categories, languages, groups: sorted values of each axis; groups is ("all",) without a group column.
    group_column: the column behind `groups`, or None.
    keys: int64 (N,), ascending and unique: position in the full array over AXES, zones and labels as in ZONES and LABELS.
    moments: float64 (N, 4), as in MOMENTS.
    frame_max_weight: float64 (categories, zones): largest 1 / inclusion_prob of the frame, drawn or not; 0 where there is no row.
    """

    categories: tuple[str, ...]
    languages: tuple[str, ...]
    groups: tuple[str, ...]
    group_column: str | None
    keys: NDArray[np.int64]
    moments: Floats
    frame_max_weight: Floats


def edges() -> Floats:
    """Lower edges of the bins, float64 (4096,): 0, then the sigmoid of a regular grid on (-12, 12). Thresholds are among them."""
    raise NotImplementedError


def bin_of(prob: ArrayLike) -> NDArray[np.int64]:
    """Bin of each probability: the last whose lower edge is <= prob, so that prob >= edges()[k] exactly where bin_of(prob) >= k."""
    raise NotImplementedError


def snap_up(threshold: float) -> int:
    """The first bin whose lower edge is >= threshold: NUM_BINS (nothing is at or above it) where no edge is."""
    raise NotImplementedError


def build(
    rows: daft.DataFrame,
    *,
    group_column: str | None = None,
    calibration: Mapping[str, Any] | None = None,
    frame_min_inclusion_prob: Mapping[str, float] | None = None,
) -> Cube:
    """Count the rows of a table of any size.

    Args:
        rows: columns category, language (str), score (float in [0, 1]), label (number: 0, 1 or null); optional inclusion_prob
            (float in (0, 1] or null; absent: 1), zone (str; absent or another value: "unknown") and `group_column`. Null
            language or group counts as "und" / "unknown".
        group_column: a column to split by, or None.
        calibration: content of calibration.json; bins then hold calibrated probabilities.
        frame_min_inclusion_prob: zone -> smallest inclusion probability of its frame, for rows where inclusion_prob is null.
            A zone left out takes the smallest of the others.

    Returns:
        the cube; float64 sums.

    Raises:
        BadUse: a score is null, NaN or outside [0, 1], a label is neither 0, 1 nor null, a labelled row has no
            inclusion_prob though the table has that column, or an inclusion_prob lies outside (0, 1].
    """
    raise NotImplementedError


def merge(cubes: Sequence[Cube]) -> Cube:
    """Sum cubes over the union of their axes; frame_max_weight by maximum.

    Raises:
        ValueError: no cube, or cubes split by different group columns.
    """
    raise NotImplementedError


def save(cube: Cube, path: Path) -> None:
    """Write a cube as one Parquet file, whole or not at all."""
    raise NotImplementedError


def load(path: Path) -> Cube:
    """Read a cube written by `save`.

    Raises:
        BadUse: the file is missing or no cube of this version.
    """
    raise NotImplementedError


def dense(cube: Cube, axes: Sequence[str]) -> Floats:
    """Sum the cube over all axes but `axes`.

    Args:
        axes: names among AXES, in the order wanted.

    Returns:
        float64 (one dimension per axis, then 4 moments).
    """
    raise NotImplementedError


def cut(cube: Cube, cuts: ArrayLike, axes: Sequence[str]) -> Floats:
    """Sum the cube over score intervals that differ by category: what happens at thresholds.

    Args:
        cuts: int (categories, K), bins in ascending order along K; interval k holds bins >= cuts[k - 1] and < cuts[k].
            NUM_BINS means "no such threshold".
        axes: names among AXES without "bin", in the order wanted.

    Returns:
        float64 (one dimension per axis, K + 1 intervals, 4 moments). With cuts = [review, auto_remove]: 0 none, 1 review, 2 removed.
    """
    raise NotImplementedError


def cut_max_weight(cube: Cube, cuts: ArrayLike) -> Floats:
    """Largest frame weight within each score interval: over the zones that have a row there.

    Args:
        cuts: as in `cut`.

    Returns:
        float64 (categories, K + 1); 0 where the frame has no row in the interval.
    """
    raise NotImplementedError
