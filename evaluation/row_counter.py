"""Turn batches of rows of a scores table into one cube: check, code, bin, sum."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from evaluation.bins import NUM_BINS, bin_of
from evaluation.cube import LABELS, MOMENTS, ZONES, Cube, Floats, Ints, sum_by_key
from feature_store import calibration_map
from feature_store.errors import BadUse

ROWS_PER_SUM = 4_000_000  # rows, or partial sums, that are summed at a time
# Room for each axis while its values are still being discovered; with zones, labels and bins a key stays below 2**63.
ROOM = {"category": 1 << 10, "language": 1 << 13, "group": 1 << 18}
NULL_LABEL = LABELS.index("null")
UNKNOWN_ZONE = ZONES.index("unknown")


class RowCounter:
    """Sums of rows seen so far. See `evaluation.cube_build.build` for the columns, their meaning and what is refused."""

    def __init__(
        self, group_column: str | None, calibration: Mapping[str, Any] | None, frame_min_inclusion_prob: Mapping[str, float] | None
    ) -> None:
        self._group_column = group_column
        self._calibration = calibration
        self._null_weight = _null_weights(frame_min_inclusion_prob)
        self._values = {axis: pa.array([], pa.large_string()) for axis in ROOM}
        self._sums: list[tuple[Ints, Floats]] = []
        self._waiting: list[tuple[Ints, Floats, Floats]] = []
        self._num_waiting = 0
        self._num_rows = 0
        self._max_weight = np.zeros(ROOM["category"] * len(ZONES))

    def columns(self, present: Sequence[str]) -> list[str]:
        """The columns to read of a table that has the columns `present`.

        Raises:
            BadUse: naming a required column that is missing.
        """
        required = ["category", "language", "score", "label"] + ([self._group_column] if self._group_column else [])
        for name in required:
            if name not in present:
                raise BadUse(f"scores: there is no column {name!r} among {', '.join(present)}; rename one with --columns {name}=YOURS")
        return list(dict.fromkeys(required + [name for name in ("inclusion_prob", "zone") if name in present]))

    def add(self, batch: pa.RecordBatch) -> None:
        """Count one batch of rows.

        Raises:
            BadUse: naming the first row that cannot be counted and why.
        """
        names = batch.schema.names
        category = self._codes("category", batch["category"], None)
        language = self._codes("language", batch["language"], "und")
        group = self._codes("group", batch[self._group_column], "unknown") if self._group_column else 0
        zone = _zones(batch["zone"]) if "zone" in names else np.full(batch.num_rows, UNKNOWN_ZONE)
        label = self._labels(batch["label"])
        score = self._calibrated(self._scores(batch["score"]), category, language)
        frame_weight = self._weights(batch["inclusion_prob"], zone, label) if "inclusion_prob" in names else np.ones(batch.num_rows)
        np.maximum.at(self._max_weight, category * len(ZONES) + zone, frame_weight)
        cell = ((category * ROOM["language"] + language) * ROOM["group"] + group) * len(ZONES) + zone
        key = (cell * len(LABELS) + label) * NUM_BINS + bin_of(score)
        self._waiting.append((key, np.where(label == NULL_LABEL, 1.0, frame_weight), score))
        self._num_rows += batch.num_rows
        self._num_waiting += batch.num_rows
        if self._num_waiting >= ROWS_PER_SUM:
            self._sum_waiting()

    def cube(self) -> Cube:
        """The cube of all rows added so far."""
        if self._num_waiting:
            self._sum_waiting()
        if self._group_column is None:
            self._values["group"] = pa.array(["all"], pa.large_string())
        if not self._sums:
            self._sums = [(np.zeros(0, np.int64), np.zeros((0, len(MOMENTS))))]
        keys, moments = sum_by_key(
            np.concatenate([keys for keys, _ in self._sums]), list(np.concatenate([sums for _, sums in self._sums]).T)
        )
        names, ranks = zip(*(_sorted(self._values[axis]) for axis in ROOM), strict=True)
        places = np.unravel_index(keys, (*ROOM.values(), len(ZONES), len(LABELS), NUM_BINS))
        shape = (*(len(values) for values in names), len(ZONES), len(LABELS), NUM_BINS)
        index = (*(rank[place] for rank, place in zip(ranks, places, strict=False)), *places[len(ROOM) :])
        new_keys = np.ravel_multi_index(index, shape) if len(keys) else keys
        order = np.argsort(new_keys)
        max_weight = np.zeros((len(names[0]), len(ZONES)))
        max_weight[ranks[0]] = self._max_weight.reshape(-1, len(ZONES))[: len(names[0])]
        categories, languages, groups = names
        return Cube(categories, languages, groups, self._group_column, new_keys[order], moments[order], max_weight)

    def _sum_waiting(self) -> None:
        key, weight, score = (np.concatenate(part) for part in zip(*self._waiting, strict=True))
        self._sums.append(sum_by_key(key, (None, weight, weight**2, weight * score)))
        self._waiting, self._num_waiting = [], 0
        if sum(len(keys) for keys, _ in self._sums) > 2 * ROWS_PER_SUM + len(self._sums[0][0]):
            keys, sums = zip(*self._sums, strict=True)
            self._sums = [sum_by_key(np.concatenate(keys), list(np.concatenate(sums).T))]

    def _codes(self, axis: str, column: pa.Array, if_null: str | None) -> Ints:
        """Position of each value among the values of this axis, new ones appended."""
        values = column.cast(pa.large_string())
        if values.null_count:
            if if_null is None:
                self._refuse(_mask(values.is_null()), f"{axis} is null; every row needs one")
            values = values.fill_null(if_null)
        codes = pc.index_in(values, self._values[axis])
        if codes.null_count:
            new = pc.unique(values.filter(codes.is_null()))
            self._values[axis] = pa.concat_arrays([self._values[axis], new])
            if len(self._values[axis]) > ROOM[axis]:
                raise BadUse(f"scores: more than {ROOM[axis]} different values of {axis}; group by a coarser column")
            codes = pc.index_in(values, self._values[axis])
        return np.asarray(codes.to_numpy(), np.int64)

    def _scores(self, column: pa.Array) -> Floats:
        scores = _numbers(column)
        self._refuse(~((scores >= 0) & (scores <= 1)), "score must be a number from 0 to 1", scores)
        return scores

    def _labels(self, column: pa.Array) -> Ints:
        numbers = column.cast(pa.int8()) if pa.types.is_boolean(column.type) else column
        values = _numbers(numbers)
        unknown = np.isnan(values)
        self._refuse(~(unknown | (values == 0) | (values == 1)), "label must be 0, 1 or null", values)
        return np.where(unknown, NULL_LABEL, values).astype(np.int64)

    def _weights(self, column: pa.Array, zone: Ints, label: Ints) -> Floats:
        """1 / inclusion_prob of each row as part of the frame."""
        probs = _numbers(column)
        missing = np.isnan(probs)
        self._refuse(~(missing | ((probs > 0) & (probs <= 1))), "inclusion_prob must lie in (0, 1]", probs)
        self._refuse(
            missing & (label != NULL_LABEL), "inclusion_prob is null though the row has a label; give the probability it was drawn with"
        )
        if self._null_weight is None:
            self._refuse(
                missing, "inclusion_prob is null and the frame's smallest one is not known; set thresholds.frame_min_inclusion_prob"
            )
            return 1 / probs
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

    def _refuse(self, bad: NDArray[np.bool_], message: str, values: Floats | None = None) -> None:
        if bad.any():
            first = int(np.argmax(bad))
            found = "" if values is None else f", got {values[first]}"
            raise BadUse(f"scores: row {self._num_rows + first + 1}: {message}{found}")


def _null_weights(smallest: Mapping[str, float] | None) -> Floats | None:
    """Frame weight per zone for rows whose inclusion_prob is null."""
    if smallest is None:
        return None
    least = min(smallest.values())
    return np.array([1 / smallest.get(zone, least) for zone in ZONES])


def _numbers(column: pa.Array) -> Floats:
    """As float64, null as NaN."""
    values = column.cast(pa.float64())
    return np.asarray((values.fill_null(np.nan) if values.null_count else values).to_numpy(), np.float64)


def _zones(column: pa.Array) -> Ints:
    known = pa.array(ZONES, pa.large_string())
    return np.asarray(pc.index_in(column.cast(pa.large_string()), known).fill_null(UNKNOWN_ZONE).to_numpy(), np.int64)


def _sorted(values: pa.Array) -> tuple[tuple[str, ...], Ints]:
    """Values in order, and the rank of each old position."""
    names = values.to_pylist()
    ordered = sorted(names)
    return tuple(ordered), np.array([ordered.index(name) for name in names], np.int64)


def _mask(column: pa.Array) -> NDArray[np.bool_]:
    return np.asarray(column.to_numpy(zero_copy_only=False), bool)
