"""Read rates off the counts of one category: each rate is events among rows at risk."""

from typing import NamedTuple

import numpy as np

from upheld.common.arrays import Floats
from upheld.evaluation.cube.cube import Moment
from upheld.evaluation.metrics.fairness import Cells

OTHER, VIOLATION = 0, 1
NONE, REVIEW, REMOVED = 0, 1, 2


class Counts(NamedTuple):
    """What one category's metrics are computed from, for S slices.

    names: the slices; the last is the pooled one where `pooled`.
    by_bin: float64 (S, 2 labels, bins, 4), labelled rows.
    by_action: float64 (S, 3 labels, 3 actions, 4); `removable` leaves out languages in which automatic removal is off.
    max_weight: float64 (3 actions,), the frame's largest weight.
    """

    names: tuple[str, ...]
    pooled: bool
    by_bin: Floats
    by_action: Floats
    removable: Floats
    max_weight: Floats


def prevalence(counts: Counts) -> Cells:
    """Count violations among all labelled rows."""
    return _cells(counts, counts.by_action, (VIOLATION, [0, 1, 2]), ([0, 1], [0, 1, 2]))


def decided_wrongly(counts: Counts) -> Cells:
    """Count wrong decisions among all labelled rows: harmless rows that are flagged, and violations that are not."""
    harmless, missed_ones = counts.by_action[:, OTHER][:, [REVIEW, REMOVED]].sum(1), counts.by_action[:, VIOLATION, NONE]
    wrong, all_ = harmless + missed_ones, counts.by_action[:, [OTHER, VIOLATION]].sum((1, 2))
    largest = np.full(len(wrong), _largest(counts, NONE, REVIEW, REMOVED))
    return Cells(all_[:, Moment.N], wrong[:, Moment.W], wrong[:, Moment.W2], all_[:, Moment.W], all_[:, Moment.W2], largest, largest)


def flagged_wrongly(counts: Counts) -> Cells:
    """Count harmless rows among those that are reviewed or removed."""
    return _cells(counts, counts.by_action, (OTHER, [1, 2]), ([0, 1], [1, 2]))


def flagged_benign(counts: Counts) -> Cells:
    """Count reviewed or removed rows among the harmless ones."""
    return _cells(counts, counts.by_action, (OTHER, [1, 2]), ([OTHER], [0, 1, 2]))


def missed(counts: Counts) -> Cells:
    """Count rows without action among the violations."""
    return _cells(counts, counts.by_action, (VIOLATION, [NONE]), ([VIOLATION], [0, 1, 2]))


def removed_wrongly(counts: Counts) -> Cells:
    """Count automatic removals that people would not have made, among all labelled automatic removals."""
    return _cells(counts, counts.removable, (OTHER, [REMOVED]), ([0, 1], [REMOVED]))


def removed_benign(counts: Counts) -> Cells:
    """Count automatic removals among the harmless rows of languages in which automatic removal is on."""
    return _cells(counts, counts.removable, (OTHER, [REMOVED]), ([OTHER], [0, 1, 2]))


def not_removed(counts: Counts) -> Cells:
    """Count violations that are not removed automatically, in languages in which automatic removal is on."""
    return _cells(counts, counts.removable, (VIOLATION, [NONE, REVIEW]), ([VIOLATION], [0, 1, 2]))


def _cells(counts: Counts, table: Floats, events: tuple[int, list[int]], risk: tuple[list[int], list[int]]) -> Cells:
    """Collect the counts of one rate: `events` and `risk` are (labels, actions); an item at risk of another label or action is no event."""
    labels, actions = np.atleast_1d(events[0]), events[1]
    hit = table[:, labels][:, :, actions].sum((1, 2))
    all_ = table[:, risk[0]][:, :, risk[1]].sum((1, 2))
    others = [action for action in risk[1] if action not in actions] if len(risk[0]) == 1 else risk[1]
    largest, largest_rest = (np.full(len(table), _largest(counts, *part)) for part in (actions, others))
    return Cells(all_[:, Moment.N], hit[:, Moment.W], hit[:, Moment.W2], all_[:, Moment.W], all_[:, Moment.W2], largest, largest_rest)


def _largest(counts: Counts, *actions: int) -> float:
    """Find the largest frame weight among these actions; of the whole frame where none has a row, since one there could weigh that much."""
    return float(counts.max_weight[list(actions)].max() or counts.max_weight.max())
