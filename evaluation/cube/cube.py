"""The score cube: every weekly metric from weighted counts per score bin (docs/statistics.md, Score cube).

Axes: category x language x group x zone x label x bin. Stored sparse (most bins of most cells are empty); `dense` and `cut`
give the arrays that metrics want. Merging days, partitions or workers is a sum, so no report rescans rows.
evaluation/cube/build.py counts rows into cubes.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike

from upheld.common.arrays import Floats, Ints
from upheld.common.errors import BadUse
from upheld.common.files import replacing
from upheld.evaluation.cube.bins import NUM_BINS

AXES = ("category", "language", "group", "zone", "label", "bin")
ZONES = ("auto_remove", "review", "none", "unknown")  # zone of the draw; unknown where the table does not say
LABELS = ("0", "1", "null")
FORMAT = "upheld-cube-1"
CELL_SIZE = len(LABELS) * NUM_BINS  # keys of one cell are consecutive


class Moment(IntEnum):
    """What a cube sums: rows, w, w squared, and w times score; w = 1 / inclusion_prob, and 1 for a null label."""

    N = 0
    W = 1
    W2 = 2
    WP = 3


MOMENTS = tuple(moment.name.lower() for moment in Moment)


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
    keys: Ints
    moments: Floats
    frame_max_weight: Floats

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis, in the order of AXES."""
        return len(self.categories), len(self.languages), len(self.groups), len(ZONES), len(LABELS), NUM_BINS

    @property
    def num_rows(self) -> int:
        """Rows counted."""
        return round(float(self.moments[:, Moment.N].sum()))


def merge(cubes: Sequence[Cube]) -> Cube:
    """Sum cubes over the union of their axes; frame_max_weight by maximum.

    Args:
        cubes: at least one, all split by the same group column.

    Returns:
        the cube that one pass over all their rows would give.

    Raises:
        ValueError: no cube, or cubes split by different group columns.
    """
    if len({cube.group_column for cube in cubes}) != 1:
        raise ValueError(f"cubes to merge must share one group column, got {[cube.group_column for cube in cubes]}")
    categories = tuple(sorted({value for cube in cubes for value in cube.categories}))
    languages = tuple(sorted({value for cube in cubes for value in cube.languages}))
    groups = tuple(sorted({value for cube in cubes for value in cube.groups}))
    shape = (len(categories), len(languages), len(groups), len(ZONES), len(LABELS), NUM_BINS)
    keys, weights = [], np.zeros((len(categories), len(ZONES)))
    for cube in cubes:
        places = [
            np.searchsorted(new, old)
            for new, old in zip((categories, languages, groups), (cube.categories, cube.languages, cube.groups), strict=True)
        ]
        category, language, group, *rest = np.unravel_index(cube.keys, cube.shape)
        keys.append(np.ravel_multi_index((places[0][category], places[1][language], places[2][group], *rest), shape))
        np.maximum.at(weights, places[0], cube.frame_max_weight)
    total_keys, total = sum_by_key(np.concatenate(keys), list(np.concatenate([cube.moments for cube in cubes]).T))
    return Cube(categories, languages, groups, cubes[0].group_column, total_keys, total, weights)


def one_category(cube: Cube, category: str) -> Cube:
    """The part of a cube that belongs to one of its categories."""
    index, stride = cube.categories.index(category), int(np.prod(cube.shape[1:]))
    start, stop = np.searchsorted(cube.keys, [index * stride, (index + 1) * stride])
    return replace(
        cube,
        categories=(category,),
        keys=cube.keys[start:stop] - index * stride,
        moments=cube.moments[start:stop],
        frame_max_weight=cube.frame_max_weight[index : index + 1],
    )


def sum_by_key(keys: Ints, columns: Sequence[Floats | None]) -> tuple[Ints, Floats]:
    """Sum rows of equal key.

    Args:
        keys: int64 (N,).
        columns: K columns, float64 (N,) each; None stands for a column of ones.

    Returns:
        (int64 (M,) ascending and unique, float64 (M, K)).
    """
    cell, cells = pd.factorize(keys // CELL_SIZE)
    place = cell * CELL_SIZE + keys % CELL_SIZE
    if len(cells) * CELL_SIZE <= 4 * len(keys):  # counting beats hashing while all places are not many more than the rows
        counts = np.bincount(place)
        occupied = chosen = np.flatnonzero(counts)
    else:
        place, occupied = pd.factorize(place)
        counts, chosen = np.bincount(place), np.arange(len(occupied))
    sums = np.empty((len(occupied), len(columns)))
    for k, column in enumerate(columns):
        sums[:, k] = (counts if column is None else np.bincount(place, column))[chosen]
    unique = cells[occupied // CELL_SIZE] * CELL_SIZE + occupied % CELL_SIZE
    order = np.argsort(unique)
    return unique[order], sums[order]


def save(cube: Cube, path: Path) -> None:
    """Write a cube as one Parquet file, whole or not at all."""
    header = {
        "format": FORMAT,
        "categories": cube.categories,
        "languages": cube.languages,
        "groups": cube.groups,
        "group_column": cube.group_column,
        "frame_max_weight": cube.frame_max_weight.tolist(),
    }
    columns = {"key": cube.keys} | {name: cube.moments[:, k] for k, name in enumerate(MOMENTS)}
    table = pa.table(columns).replace_schema_metadata({"cube": json.dumps(header)})
    with replacing(path) as partial:
        pq.write_table(table, partial, compression="zstd")


def load(path: Path) -> Cube:
    """Read a cube written by `save`.

    Raises:
        BadUse: the file is missing or no cube of this version.
    """
    try:
        table = pq.read_table(path)
        header = json.loads(table.schema.metadata[b"cube"])
    except (OSError, pa.ArrowInvalid, KeyError, TypeError, ValueError) as error:
        raise BadUse(f"{path}: not a score cube ({error}); expected a Parquet file written by upheld.evaluation.cube.cube.save") from error
    if header.get("format") != FORMAT:
        raise BadUse(f"{path}: cube format {header.get('format')!r}, expected {FORMAT!r}; build the cube again from its scores")
    moments = np.stack([table[name].to_numpy() for name in MOMENTS], axis=1)
    categories, languages, groups = (tuple(header[name]) for name in ("categories", "languages", "groups"))
    weights = np.array(header["frame_max_weight"], np.float64)
    return Cube(categories, languages, groups, header["group_column"], table["key"].to_numpy(), moments, weights)


def dense(cube: Cube, axes: Sequence[str]) -> Floats:
    """Sum the cube over all axes but `axes`.

    Args:
        axes: names among AXES, in the order wanted.

    Returns:
        float64 (one dimension per axis, then 4 moments).
    """
    return _sum_onto(cube, axes, (), np.zeros_like(cube.keys))


def cut(cube: Cube, cuts: ArrayLike, axes: Sequence[str]) -> Floats:
    """Sum the cube over score intervals that differ by category: what happens at thresholds.

    Args:
        cuts: int (categories, K), bins in ascending order along K; interval k holds bins >= cuts[:, k - 1] and < cuts[:, k].
            NUM_BINS means "no such threshold".
        axes: names among AXES without "bin", in the order wanted.

    Returns:
        float64 (one dimension per axis, K + 1 intervals, 4 moments). With cuts = [review, auto_remove]: 0 none, 1 review, 2 removed.
    """
    thresholds = np.asarray(cuts, np.int64)
    bins, category = cube.keys % NUM_BINS, cube.keys // (np.prod(cube.shape[1:]))
    interval = (bins[:, None] >= thresholds[category]).sum(axis=1)
    return _sum_onto(cube, axes, (thresholds.shape[1] + 1,), interval)


def cut_max_weight(cube: Cube, cuts: ArrayLike) -> Floats:
    """Largest frame weight within each score interval: over the zones that have a row there.

    Args:
        cuts: as in `cut`.

    Returns:
        float64 (categories, K + 1); 0 where the frame has no row in the interval.
    """
    rows = cut(cube, cuts, ("category", "zone"))[..., 0]  # (categories, zones, K + 1)
    weights: Floats = np.where(rows > 0, cube.frame_max_weight[:, :, None], 0.0).max(axis=1)
    return weights


def _sum_onto(cube: Cube, axes: Sequence[str], extra_shape: tuple[int, ...], extra: Ints) -> Floats:
    """Sum moments onto `axes` followed by one further axis whose position per key is `extra`."""
    places = np.unravel_index(cube.keys, cube.shape)
    wanted = [AXES.index(name) for name in axes]
    shape = tuple(cube.shape[k] for k in wanted) + extra_shape
    index = (*(places[k] for k in wanted), extra) if extra_shape else tuple(places[k] for k in wanted)
    flat = np.ravel_multi_index(index, shape) if shape else np.zeros_like(cube.keys)
    size = int(np.prod(shape))
    sums: Floats = np.stack([np.bincount(flat, column, minlength=size) for column in cube.moments.T], axis=-1, dtype=np.float64)
    return sums.reshape((*shape, len(MOMENTS)))
