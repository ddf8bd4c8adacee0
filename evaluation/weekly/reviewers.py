"""Measure how far reviewers agree, and whose verdicts deviate beyond chance (docs/statistics.md, Reviewers' error).

Verdicts come as one row a reviewer and item: columns item_id, category, language, reviewer_id, verdict (1 violation, 0 none; escalated
verdicts are left out before) and gold (1, 0 or null: the adjudicated truth where an item has one).
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from upheld.common.arrays import Floats
from upheld.common.params.evaluation import Reviewers
from upheld.evaluation.metrics.fairness import Cells
from upheld.evaluation.statistics import intervals, weighted


def krippendorff(verdicts: pd.DataFrame) -> pd.DataFrame:
    """Compute Krippendorff's alpha of binary verdicts, per category and language.

    Args:
        verdicts: see the module.

    Returns:
        columns category, language, alpha (1 full agreement, 0 as by chance, NaN where undefined), num_items (with two or more reviewers),
        num_verdicts. *Undefined when* no item has two verdicts, or all verdicts are the same: then chance agrees fully too.

    Source: Krippendorff (2004), Content Analysis, 2nd ed., chapter 11; nominal data, missing verdicts allowed.
    """
    items = verdicts.groupby(["category", "language", "item_id"], sort=True).verdict.agg(["size", "sum"])
    items = items[items["size"] >= 2]
    ones, size = items["sum"], items["size"]
    items = items.assign(disagreement=2 * ones * (size - ones) / (size - 1))
    cells = items.groupby(["category", "language"]).agg(
        num_items=("size", "size"), num_verdicts=("size", "sum"), ones=("sum", "sum"), observed=("disagreement", "sum")
    )
    every = verdicts.groupby(["category", "language"]).size().index
    cells = cells.reindex(every, fill_value=0)
    expected = 2 * cells.ones * (cells.num_verdicts - cells.ones) / (cells.num_verdicts - 1).clip(lower=1)
    alpha = 1 - cells.observed / expected.where(expected > 0)
    return cells.assign(alpha=alpha).reset_index()[["category", "language", "alpha", "num_items", "num_verdicts"]]


def deviating(verdicts: pd.DataFrame, level: float) -> pd.DataFrame:
    """Test every reviewer against the verdicts of others on the same items.

    An item's reference is its gold verdict, else the majority of its other reviewers (ties are left out). A reviewer's disagreements are
    compared, apart for references of 1 and of 0, with those of all other reviewers in the same categories and languages, so that one who
    always gives the same answer is found even where that answer is mostly right.

    Args:
        verdicts: see the module.
        level: family-wise level (Holm over reviewers and both references).

    Returns:
        one row a reviewer and reference: reviewer_id, reference, num, num_disagreements, expected (what others' rate would give),
        p_adjusted, flagged. A reviewer who shares no item with another has no row.
    """
    compared = _with_reference(verdicts)
    strata = ["reference", "category", "language"]
    own = compared.groupby(["reviewer_id", *strata]).disagrees.agg(num="size", num_disagreements="sum").reset_index()
    total = compared.groupby(strata).disagrees.agg(num="size", num_disagreements="sum")
    joined = own.merge(total.reset_index(), on=strata, suffixes=("", "_all"), validate="many_to_one")
    num_others = joined.num_all - joined.num
    wrong_others = joined.num_disagreements_all - joined.num_disagreements
    joined = joined.assign(num_others=num_others, expected=joined.num * wrong_others / num_others.where(num_others > 0))
    rows = joined.dropna(subset="expected").groupby(["reviewer_id", "reference"], as_index=False)
    found = rows[["num", "num_disagreements", "num_others", "expected"]].sum()
    others_wrong = found.expected / found.num * found.num_others
    p_value = intervals.prob_gap_by_chance(found.num_disagreements, found.num, others_wrong, found.num_others)
    adjusted = intervals.holm(p_value)
    return found.drop(columns="num_others").assign(p_adjusted=adjusted, flagged=adjusted <= level)


def not_compared(verdicts: pd.DataFrame, found: pd.DataFrame) -> dict[str, int]:
    """Count the reasons why reviewers have no row in what `deviating` found.

    Args:
        verdicts: see the module; its index is unique.
        found: of `deviating`, from the same verdicts.

    Returns:
        how many reviewers judged no item that somebody else judged or whose truth is known (`alone`), only items on which the others are
        evenly split (`tied`), or have no colleague with a reference of the same kind, category and language (`no_colleague`).
    """
    left = verdicts[~verdicts.reviewer_id.isin(found.reviewer_id)]
    size = verdicts.groupby(["item_id", "category"]).verdict.transform("size")
    shares, known = (size > 1) | verdicts.gold.notna(), verdicts.index.isin(_with_reference(verdicts).index)
    of_each = left.assign(shares=shares, known=pd.Series(known, verdicts.index)).groupby("reviewer_id")[["shares", "known"]].any()
    return {
        "alone": int((~of_each.shares).sum()),
        "tied": int((of_each.shares & ~of_each.known).sum()),
        "no_colleague": int(of_each.known.sum()),
    }


def _with_reference(verdicts: pd.DataFrame) -> pd.DataFrame:
    """Keep the rows that can be compared, with reference (0 or 1) and disagrees (0 or 1)."""
    by_item = verdicts.groupby(["item_id", "category"]).verdict
    others = by_item.transform("size") - 1
    share = (by_item.transform("sum") - verdicts.verdict) / others.where(others > 0)
    majority = pd.Series(np.select([share > 0.5, share < 0.5], [1.0, 0.0], np.nan), index=verdicts.index)
    reference = verdicts.gold.astype("float64").fillna(majority)
    compared = verdicts.assign(reference=reference).dropna(subset="reference")
    return compared.assign(disagrees=(compared.verdict != compared.reference).astype(int), reference=compared.reference.astype(int))


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

    Returns:
        the correction, refused with the reason where gold is too small or reviewers too often wrong for it to mean anything.
    """
    seen, violations = np.asarray(gold.num_seen, np.float64), np.asarray(gold.num_violations, np.float64)
    cleared, others = np.asarray(gold.num_cleared, np.float64), np.asarray(gold.num_others, np.float64)
    # Both one-sided bounds at delta, of which the box spends only one.
    sensitivity = intervals.clopper_pearson(seen, violations, 2 * section.delta_sensitivity)
    specificity = intervals.clopper_pearson(cleared, others, 2 * section.delta_specificity)
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
