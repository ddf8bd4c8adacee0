"""Count the rows of a checked score table into a cube, in bounded memory."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from upheld.evaluation.cube.cube import Cube
from upheld.evaluation.cube.row_counter import RowCounter

ROWS_PER_BATCH = 1 << 17


def build(
    table: pa.Table,
    *,
    group_column: str | None = None,
    calibration: Mapping[str, Any] | None = None,
    frame_min_inclusion_prob: Mapping[Any, float] | None = None,
) -> Cube:
    """Count the rows of a table whose values have been checked, as `upheld.evaluation.scores.table.batches` gives them.

    Args:
        table: columns category, language (text, dictionary-encoded or not, no null), score (float64 in [0, 1]), label (float64: 0, 1 or
            null); optional inclusion_prob (float64 in (0, 1] or null; absent: 1), zone (text; absent or another value: "unknown") and
            `group_column` (text, no null).
        group_column: a column to split by, or None.
        calibration: content of calibration.json; bins then hold calibrated probabilities.
        frame_min_inclusion_prob: zone -> smallest inclusion probability of its frame, for rows where inclusion_prob is null; a zone
            left out takes the smallest of all. None: such rows must not occur.

    Returns:
        the cube; float64 sums.

    Raises:
        BadUse: an inclusion_prob is null and there is no frame_min_inclusion_prob; an axis has more values than there is room for.
    """
    counter = RowCounter(group_column, calibration, frame_min_inclusion_prob)
    for start in range(0, table.num_rows, ROWS_PER_BATCH):
        counter.add(table.slice(start, ROWS_PER_BATCH))
    return counter.cube()
