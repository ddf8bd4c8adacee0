"""Compare each language (region, group) with the others and say what the evidence supports (STATISTICS.md, section 3)."""

from typing import NamedTuple

from numpy.typing import NDArray
import numpy as np

Floats = NDArray[np.float64]


class Cells(NamedTuple):
    """Weighted counts of one rate, float64 (..., groups): leading axes are families (category, metric), the last one the groups compared.

    num_labels: labelled items at risk (for FPR: benign ones).
    sum_w_events, sum_w2_events: sums of w and w squared over events (for FPR: benign items that were flagged).
    sum_w, sum_w2: the same over all labelled items at risk.
    max_weight: largest frame weight of an item that could be an event (cube.cut_max_weight of the interval).
    """

    num_labels: Floats
    sum_w_events: Floats
    sum_w2_events: Floats
    sum_w: Floats
    sum_w2: Floats
    max_weight: Floats


class Verdicts(NamedTuple):
    """One verdict per cell, arrays (..., groups). value is NaN where undefined; need_n is NaN unless verdict is INSUFFICIENT."""

    value: Floats
    ci_low: Floats
    ci_high: Floats
    num_labels: Floats
    num_effective: Floats
    p_adjusted: Floats
    verdict: NDArray[np.str_]  # PASS, WARN, FAIL or INSUFFICIENT
    need_n: Floats
    reason: NDArray[np.object_]


def rate(cells: Cells, alpha: float) -> tuple[Floats, Floats, Floats, Floats]:
    """Each group's own rate with its interval.

    Returns:
        (value, ci_low, ci_high, num_effective), float64 (..., groups): Clopper-Pearson on effective counts, alpha / 2 each side;
        NaN where nothing is at risk.
    """
    raise NotImplementedError


def gap(cells: Cells, tau: float, alpha: float = 0.10, level: float = 0.05) -> Verdicts:
    """Rate of each group minus the rate of all others together.

    Args:
        cells: see Cells.
        tau: largest gap that is tolerated, in (0, 1).
        alpha: two-sided error of the Newcombe-Wilson interval.
        level: family-wise level of WARN (Holm over the groups of a family).
    """
    raise NotImplementedError


def ratio(cells: Cells, tau: float, alpha: float = 0.10, level: float = 0.05) -> Verdicts:
    """Rate of each group over the rate of all others together; `tau` > 1 is the largest ratio that is tolerated."""
    raise NotImplementedError
