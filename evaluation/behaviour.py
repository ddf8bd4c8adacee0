"""What a model does on cases whose right answer is known: pass rates of functionalities, and whether like cases score alike.

Intervals take the cases of a functionality as a sample of all that could be written for it. Cases out of one template resemble each other,
so they are narrower than they should be. Verdicts: PASS or FAIL where the whole interval lies on one side of the bound, else INSUFFICIENT.
"""

import numpy as np
import pandas as pd
from scipy.stats import t as student

from upheld.common.arrays import Bools, Floats
from upheld.common.params.evaluation import Behave
from upheld.evaluation.metrics import table as metrics
from upheld.evaluation.metrics.fairness import FAIL, INSUFFICIENT, PASS
from upheld.evaluation.metrics.rows import ALL, COLUMNS
from upheld.evaluation.statistics import intervals

SLICE = ["category", "language", "group_column", "group_value"]
GROUPS = ("functionality", "identity")


def measure(cases: pd.DataFrame, section: Behave, alpha: float) -> pd.DataFrame:
    """Every metric of every slice.

    Args:
        cases: columns of `behaviour_suite.read`, and prob (calibrated, float64 in [0, 1]) and flagged (bool).
        section: the bounds.
        alpha: two-sided error of intervals.

    Returns:
        the columns of metrics.parquet; group_column is functionality, identity or all; language or group `all` is the pooled slice.
        pass_rate: share of cases whose decision is the expected one. Of pairs with the same expected label: score_shift (mean of the
        case's probability minus its reference's) and flip_rate (share whose decisions differ). Of pairs with different ones:
        ordered_rate (share in which the violation scores higher). A slice without such a pair has no such row.
    """
    pairs = paired(cases)
    alike, contrasts = pairs[pairs["same"]], pairs[~pairs["same"]]
    passed = _rates(cases.assign(event=cases["flagged"] == (cases["label"] == 1)), alpha)
    bounds = np.array([section.min_pass_rates.get(name, section.min_pass_rate) for name in passed["group_value"]], np.float64)
    parts = [
        _judged("pass_rate", passed, bounds, at_least=True),
        _judged("flip_rate", _rates(alike.assign(event=alike["flips"]), alpha), section.max_flip_rate, at_least=False),
        _judged("ordered_rate", _rates(contrasts.assign(event=contrasts["ordered"]), alpha), section.min_ordered_rate, at_least=True),
        _shifts(alike, section.max_score_shift, alpha),
    ]
    table = pd.concat([part for part in parts if len(part)], ignore_index=True)
    return metrics.tidy(table.sort_values([*SLICE, "metric"], ignore_index=True)[COLUMNS])


def paired(cases: pd.DataFrame) -> pd.DataFrame:
    """Each case beside its reference: the case that ref_case_id names, else the mean of the others with its pair_id and expected label.

    Returns:
        the cases that have one, with same (bool: both expect the same), shift (prob minus the reference's), flips (bool: another
        decision than the reference, or than most of the others), ordered (bool: the violation scores higher; of use where not same).
    """
    named = cases[cases["ref_case_id"].notna() & (cases["ref_case_id"] != cases["case_id"])]
    known = cases.set_index("case_id")[["label", "prob", "flagged"]].add_prefix("ref_")
    by_name = named.join(known, on="ref_case_id", how="inner").assign(ref_flagged=lambda rows: rows["ref_flagged"].astype(float))
    grouped = cases[cases["pair_id"].notna()]
    group = grouped.groupby(["category", "pair_id", "label"])
    others = group["prob"].transform("size") - 1
    of_others = pd.DataFrame(
        {
            "ref_label": grouped["label"],
            "ref_prob": (group["prob"].transform("sum") - grouped["prob"]) / others.where(others > 0),
            "ref_flagged": (group["flagged"].transform("sum") - grouped["flagged"]) / others.where(others > 0),
        }
    )
    by_group = grouped.join(of_others)[(others > 0) & ~grouped["case_id"].isin(by_name["case_id"])]
    rows = pd.concat([part for part in (by_name, by_group) if len(part)] or [by_name])
    gap = (rows["prob"] - rows["ref_prob"]).astype(float)
    return rows.assign(
        same=rows["label"] == rows["ref_label"],
        shift=gap,
        flips=(rows["flagged"].astype(float) - rows["ref_flagged"]).abs() > 0.5,
        ordered=np.where(rows["label"] > rows["ref_label"], gap > 0, gap < 0),
    )


def _sliced(rows: pd.DataFrame) -> pd.DataFrame:
    """Each row once for every slice that it belongs to."""
    parts = []
    for language in (rows["language"], ALL):
        parts.append(rows.assign(language=language, group_column=ALL, group_value=ALL))
        parts += [rows.assign(language=language, group_column=name, group_value=rows[name])[rows[name].notna()] for name in GROUPS]
    return pd.concat(parts, ignore_index=True)


def _rates(rows: pd.DataFrame, alpha: float) -> pd.DataFrame:
    """Share of `event` in each slice with its exact interval: a verdict on two cases must be able to stand."""
    counts = _sliced(rows).groupby(SLICE)["event"].agg(["sum", "size"]).reset_index()
    events, n = counts.pop("sum").to_numpy(float), counts.pop("size").to_numpy(float)
    low, high = (bound(events, n, alpha / 2) for bound in (intervals.clopper_pearson_lower, intervals.clopper_pearson_upper))
    return counts.assign(value=intervals.rates(events, n), ci_low=low, ci_high=high, n=n, n_eff=n)


def _shifts(pairs: pd.DataFrame, largest: float, alpha: float) -> pd.DataFrame:
    """Mean shift of each slice with Student's interval; one pair alone has none."""
    found = _sliced(pairs).groupby(SLICE)["shift"].agg(["mean", "std", "size"]).reset_index()
    value, spread, n = (found.pop(name).to_numpy(float) for name in ("mean", "std", "size"))
    half = student.ppf(1 - alpha / 2, np.maximum(n - 1, 1)) * spread / np.sqrt(n)
    found = found.assign(value=value, ci_low=value - half, ci_high=value + half, n=n, n_eff=n)
    inside = (value - half >= -largest) & (value + half <= largest)
    outside = (value - half > largest) | (value + half < -largest)
    told = [f"tolerated: {largest:g} either way" if num > 1 else "one pair alone has no interval" for num in n]
    return _decided("score_shift", found, inside, outside, largest - np.abs(value), told)


def _judged(name: str, found: pd.DataFrame, bound: Floats | float, *, at_least: bool) -> pd.DataFrame:
    """Verdicts of rates against a bound."""
    low, high = found["ci_low"].to_numpy(float), found["ci_high"].to_numpy(float)
    good, bad = (low >= bound, high < bound) if at_least else (high <= bound, low > bound)
    told = [f"expected: at {'least' if at_least else 'most'} {limit:g}" for limit in np.broadcast_to(bound, len(found))]
    return _decided(name, found, good, bad, np.abs(found["value"].to_numpy(float) - bound), told)


def _decided(name: str, found: pd.DataFrame, good: Bools, bad: Bools, room: Floats, reason: list[str]) -> pd.DataFrame:
    """Add verdict, bound, and cases until the interval would leave the bound on one side, at the value seen."""
    value, low, high = (found[column].to_numpy(float) for column in ("value", "ci_low", "ci_high"))
    verdict = np.select([good, bad], [PASS, FAIL], INSUFFICIENT)
    reach = np.maximum(high - value, value - low)
    needed = np.ceil(found["n"].to_numpy(float) * np.square(reach / np.maximum(np.abs(room), 0.01)))
    return found.assign(metric=name, verdict=verdict, need_n=np.where(verdict == INSUFFICIENT, needed, np.nan), reason=reason)
