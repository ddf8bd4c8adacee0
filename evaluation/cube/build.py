"""Count the rows of a checked score table into a cube, in bounded memory."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from upheld.common.arrays import Floats, Ints
from upheld.common.errors import BadUse
from upheld.evaluation.cube.bins import NUM_BINS, bin_of
from upheld.evaluation.cube.cube import LABELS, ZONES, Cube, sum_by_key
from upheld.feature_store.decisions import calibration as calibration_map

# Room for each axis while its values are still being discovered; with zones, labels and bins a key stays below 2**63.
ROOM = {"category": 1 << 10, "language": 1 << 13, "group": 1 << 18}
NULL_LABEL = LABELS.index("null")
UNKNOWN_ZONE = ZONES.index("unknown")


class RowCounter:
    """Rows seen so far, 24 bytes each. See `upheld.evaluation.cube.build.build` for the columns and their meaning."""

    def __init__(
        self, group_column: str | None, calibration: Mapping[str, Any] | None, frame_min_inclusion_prob: Mapping[Any, float] | None
    ) -> None:
        self._group_column = group_column
        self._calibration = calibration
        self._null_weight: Floats | None = None  # by zone, of rows that carry no inclusion_prob
        if frame_min_inclusion_prob is not None:
            least = min(frame_min_inclusion_prob.values())
            self._null_weight = np.array([1 / frame_min_inclusion_prob.get(zone, least) for zone in ZONES])
        self._values = {axis: pa.array([], pa.large_string()) for axis in ROOM}
        self._rows: list[tuple[Ints, Floats, Floats]] = []
        self._max_weight = np.zeros(ROOM["category"] * len(ZONES))

    def add(self, batch: pa.Table) -> None:
        """Count one batch of rows.

        Raises:
            BadUse: a row has no inclusion_prob and what to take for it is not known, or an axis has too many values.
        """
        category = self._codes("category", batch["category"])
        language = self._codes("language", batch["language"])
        group = self._codes("group", batch[self._group_column]) if self._group_column else 0
        zone = np.full(batch.num_rows, UNKNOWN_ZONE)
        if "zone" in batch.column_names:
            known = pc.index_in(batch["zone"].cast(pa.string()), pa.array(ZONES, pa.string()))
            zone = known.fill_null(UNKNOWN_ZONE).to_numpy().astype(np.int64)
        label = batch["label"].cast(pa.float64()).fill_null(NULL_LABEL).to_numpy().astype(np.int64)
        score = self._calibrated(batch["score"].to_numpy(), category, language)
        frame_weight = self._weights(batch["inclusion_prob"], zone) if "inclusion_prob" in batch.column_names else np.ones(batch.num_rows)
        np.maximum.at(self._max_weight, category * len(ZONES) + zone, frame_weight)
        cell = ((category * ROOM["language"] + language) * ROOM["group"] + group) * len(ZONES) + zone
        key = (cell * len(LABELS) + label) * NUM_BINS + bin_of(score)
        self._rows.append((key, np.where(label == NULL_LABEL, 1.0, frame_weight), score))

    def cube(self) -> Cube:
        """The cube of all rows added so far."""
        if self._group_column is None:
            self._values["group"] = pa.array(["all"], pa.large_string())
        no_rows = (np.zeros(0, np.int64), np.zeros(0), np.zeros(0))
        key, weight, score = (np.concatenate(part) for part in zip(*(self._rows or [no_rows]), strict=True))
        keys, moments = sum_by_key(key, (None, weight, weight**2, weight * score))
        found = [self._values[axis].to_pylist() for axis in ROOM]
        names = [tuple(sorted(values)) for values in found]
        ranks = [np.array([ordered.index(name) for name in values], np.int64) for values, ordered in zip(found, names, strict=True)]
        places = np.unravel_index(keys, (*ROOM.values(), len(ZONES), len(LABELS), NUM_BINS))
        shape = (*(len(values) for values in names), len(ZONES), len(LABELS), NUM_BINS)
        index = (*(rank[place] for rank, place in zip(ranks, places, strict=False)), *places[len(ROOM) :])
        new_keys = np.ravel_multi_index(index, shape) if len(keys) else keys
        order = np.argsort(new_keys)
        max_weight = np.zeros((len(names[0]), len(ZONES)))
        max_weight[ranks[0]] = self._max_weight.reshape(-1, len(ZONES))[: len(names[0])]
        categories, languages, groups = names
        return Cube(categories, languages, groups, self._group_column, new_keys[order], moments[order], max_weight)

    def _codes(self, axis: str, column: pa.ChunkedArray) -> Ints:
        """Position of each value among the values of this axis, new ones appended."""
        encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
        whole = encoded.combine_chunks()
        places = whole.indices.to_numpy()
        used = np.flatnonzero(np.bincount(places, minlength=len(whole.dictionary)))  # a dictionary may hold values that no row has
        names = whole.dictionary.take(pa.array(used)).cast(pa.large_string())
        codes = pc.index_in(names, self._values[axis])
        if codes.null_count:
            self._values[axis] = pa.concat_arrays([self._values[axis], names.filter(codes.is_null())])
            if len(self._values[axis]) > ROOM[axis]:
                raise BadUse(f"scores: more than {ROOM[axis]} different values of {axis}; group by a coarser column")
            codes = pc.index_in(names, self._values[axis])
        code_of = np.zeros(len(whole.dictionary), np.int64)
        code_of[used] = codes.to_numpy()
        codes_of_rows: Ints = code_of[places]
        return codes_of_rows

    def _weights(self, column: pa.ChunkedArray, zone: Ints) -> Floats:
        """1 / inclusion_prob of each row as part of the frame."""
        probs = column.to_numpy()  # null as NaN
        missing = np.isnan(probs)
        if self._null_weight is None:
            if missing.any():
                raise BadUse(
                    "scores: inclusion_prob is null and the frame's smallest one is not known; set thresholds.frame_min_inclusion_prob"
                )
            return np.asarray(1 / probs)
        return np.where(missing, self._null_weight[zone], 1 / np.where(missing, 1.0, probs))

    def _calibrated(self, score: Floats, category: Ints, language: Ints) -> Floats:
        if self._calibration is None:
            return score
        result, languages = score.copy(), self._values["language"].to_pylist()
        for code in np.unique(category):
            entry = self._calibration["categories"].get(self._values["category"][int(code)].as_py())
            rows = category == code
            result[rows] = calibration_map.apply_coded(entry, score[rows], language[rows], languages)
        return result


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
