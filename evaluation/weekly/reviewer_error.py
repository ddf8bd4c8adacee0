"""Correct precision for reviewers' own errors by a box of bounds (docs/statistics.md, Reviewers' error)."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from upheld.common.arrays import Floats
from upheld.common.params.evaluation import Reviewers
from upheld.evaluation.metrics.fairness import Cells
from upheld.evaluation.statistics import intervals, weighted


class Gold(NamedTuple):
    """Reviewers' verdicts on double-adjudicated items, arrays (...,).

    num_violations, num_seen: items that are violations, and those of them that reviewers called so.
    num_others, num_cleared: items that are none, and those of them that reviewers restored.
    """

    num_violations: ArrayLike
    num_seen: ArrayLike
    num_others: ArrayLike
    num_cleared: ArrayLike


class Corrected(NamedTuple):
    """Corrected precision, arrays (...,). lower is NaN where `refused` gives a reason; point is NaN where it would lie outside [0, 1]."""

    point: Floats
    lower: Floats
    sensitivity: tuple[Floats, Floats]
    specificity: tuple[Floats, Floats]
    refused: NDArray[np.object_]


def box_lower(apparent_lower: ArrayLike, specificity_lower: ArrayLike, sensitivity_upper: ArrayLike) -> Floats:
    """Bound true precision from below by bounds of its parts, float64 (...,) in [0, 1]; NaN where reviewers may be no better than chance.

    Source: Rogan & Gladen (1978), American Journal of Epidemiology 107(1), at the corner of the box that gives the least:
    (app_L + sp_L - 1) / (se_U + sp_L - 1).
    """
    apparent, specificity, sensitivity = (np.asarray(value, np.float64) for value in (apparent_lower, specificity_lower, sensitivity_upper))
    informed = sensitivity + specificity - 1
    result = np.where(informed > 0, (apparent + specificity - 1) / np.where(informed > 0, informed, 1.0), np.nan)
    return np.asarray(np.clip(result, 0.0, 1.0), np.float64)


def correct(confirmed: Cells, gold: Gold, section: Reviewers) -> Corrected:
    """Correct the precision of automatic removals for reviewers who confirm harmless posts or restore violations.

    Args:
        confirmed: audited removals, events being those that reviewers confirmed.
        gold: what the same reviewers say of items whose truth is known.
        section: params.reviewers.

    Returns:
        the correction, refused with the reason where gold is too small or reviewers too often wrong for it to mean anything.
    """
    seen, violations = np.asarray(gold.num_seen, np.float64), np.asarray(gold.num_violations, np.float64)
    cleared, others = np.asarray(gold.num_cleared, np.float64), np.asarray(gold.num_others, np.float64)
    sensitivity = _two_sided(seen, violations, section.delta_sensitivity)
    specificity = _two_sided(cleared, others, section.delta_specificity)
    _, events, squares, total, total_squares, _, max_weight = confirmed
    apparent = weighted.rate_lower(events, squares, total, total_squares, max_weight, section.delta_apparent)
    lower = box_lower(apparent, specificity[0], sensitivity[1])
    true_positive, true_negative = intervals.rates(seen, violations), intervals.rates(cleared, others)
    informed = true_positive + true_negative - 1
    with np.errstate(divide="ignore", invalid="ignore"):
        point = (intervals.rates(events, total) + true_negative - 1) / informed
    checks = [  # what is said first where several hold
        (np.isnan(apparent), "no audited removal"),
        (np.minimum(violations, others) < section.min_gold, f"fewer than {section.min_gold} gold items of a class"),
        (~(specificity[0] >= section.min_specificity), f"reviewers' specificity is not shown to reach {section.min_specificity}"),
        (
            ~(sensitivity[0] + specificity[0] - 1 >= section.min_informedness),
            f"reviewers' sensitivity + specificity - 1 is not shown to reach {section.min_informedness}",
        ),
        (~((point >= 0) & (point <= 1)), "the corrected estimate lies outside 0 to 1: gold and audits contradict each other"),
    ]
    refused = np.full(lower.shape, None, dtype=object)
    for fails, reason in reversed(checks):
        refused[fails] = reason
    known = ~np.any([np.broadcast_to(fails, lower.shape) for fails, _ in checks], axis=0)
    return Corrected(np.where(known, point, np.nan), np.where(known, lower, np.nan), sensitivity, specificity, refused)


def _two_sided(events: Floats, trials: Floats, delta: float) -> tuple[Floats, Floats]:
    """Compute one-sided Clopper-Pearson bounds at delta on either side; the box spends only one of them."""
    return intervals.clopper_pearson_lower(events, trials, delta), intervals.clopper_pearson_upper(events, trials, delta)
