"""Measure how far reviewers agree, and whose verdicts deviate beyond chance (docs/statistics.md, Reviewers' error).

Verdicts come as one row a reviewer and item: columns item_id, category, language, reviewer_id, verdict (1 violation, 0 none; escalated
verdicts are left out before) and gold (1, 0 or null: the adjudicated truth where an item has one).
"""

import numpy as np
import pandas as pd

from upheld.evaluation.statistics import intervals, two_rates


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
    p_value = two_rates.prob_gap_by_chance(found.num_disagreements, found.num, others_wrong, found.num_others)
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
