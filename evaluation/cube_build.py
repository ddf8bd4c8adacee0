"""Count rows of a scores table into a cube, in bounded memory, with Daft."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import daft
import pyarrow as pa
import pyarrow.parquet as pq

from evaluation.cube import Cube
from evaluation.row_counter import RowCounter
from feature_store.errors import BadUse

ROWS_PER_SLICE = 4_000_000  # rows read ahead; Daft 0.7 keeps a whole read in memory, about 80 bytes a row


def parquet_slices(paths: Iterable[Path], rows_per_slice: int = ROWS_PER_SLICE) -> Iterator[daft.DataFrame]:
    """Read Parquet files as tables small enough to hold.

    Args:
        paths: files; a folder stands for the *.parquet files under it, in order of name.
        rows_per_slice: rows of a table, unless one row group alone holds more.

    Yields:
        Daft tables, together all rows in order of path and position.

    Raises:
        BadUse: a path is missing, a folder holds no Parquet file, or a file is not Parquet.
    """
    for path in paths:
        files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
        if not files:
            raise BadUse(f"{path}: no *.parquet file in this folder; expected a table in the scores contract")
        for file in files:
            for row_groups in _row_group_runs(file, rows_per_slice):
                yield daft.read_parquet([str(file)], row_groups=[row_groups])


def _row_group_runs(file: Path, rows_per_slice: int) -> Iterator[list[int]]:
    """Runs of consecutive row groups of about `rows_per_slice` rows; one empty run for an empty file is left out."""
    try:
        metadata = pq.read_metadata(file)
    except (OSError, pa.ArrowInvalid) as error:
        raise BadUse(f"{file}: cannot be read as Parquet ({error}); expected a table in the scores contract") from error
    run, rows = [], 0
    for k in range(metadata.num_row_groups):
        run.append(k)
        rows += metadata.row_group(k).num_rows
        if rows >= rows_per_slice or k == metadata.num_row_groups - 1:
            yield run
            run, rows = [], 0


def build(
    tables: daft.DataFrame | Iterable[daft.DataFrame],
    *,
    group_column: str | None = None,
    calibration: Mapping[str, Any] | None = None,
    frame_min_inclusion_prob: Mapping[str, float] | None = None,
) -> Cube:
    """Count the rows of a table of any size.

    Args:
        tables: one table, or its slices (`parquet_slices`), with columns category, language (str), score (float in [0, 1]), label
            (number: 0, 1 or null); optional inclusion_prob (float in (0, 1] or null; absent: 1), zone (str; absent or another
            value: "unknown") and `group_column`. A null language counts as "und", a null group as "unknown".
        group_column: a column to split by, or None.
        calibration: content of calibration.json; bins then hold calibrated probabilities.
        frame_min_inclusion_prob: zone -> smallest inclusion probability of its frame, for rows where inclusion_prob is null; a zone
            left out takes the smallest of all. None: such rows must not occur.

    Returns:
        the cube; float64 sums.

    Raises:
        BadUse: a column is missing; a category is null; a score is null, NaN or outside [0, 1]; a label is neither 0, 1 nor null; an
            inclusion_prob lies outside (0, 1] or is null where that is not allowed (a labelled row, or no frame_min_inclusion_prob).
    """
    counter = RowCounter(group_column, calibration, frame_min_inclusion_prob)
    for table in [tables] if isinstance(tables, daft.DataFrame) else tables:
        for batch in table.select(*counter.columns(table.column_names)).to_arrow_iter(results_buffer_size=1):
            counter.add(batch)
    return counter.cube()
