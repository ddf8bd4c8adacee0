"""What people said in a week: reviewers' agreement and errors, and users' appeals beside the audit.

See docs/statistics.md, Reviewers' error.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from upheld.common.params.evaluation import Reviewers
from upheld.evaluation.cube.cube import Cube, cut_max_weight, one_category
from upheld.evaluation.metrics.fairness import Cells
from upheld.evaluation.thresholds.operating_point import OperatingPoint
from upheld.evaluation.weekly import deviation, reviewers
from upheld.evaluation.weekly.source import Tables
from upheld.feature_store.contracts import tables as contracts
from upheld.feature_store.ledger import verdicts

KEY = ["post_id", "category"]
REMOVED = 2
MAX_ITEMS = 8  # shown of a reviewer who deviates


def votes(tables: Tables, gold: pd.DataFrame, as_of: pd.Timestamp) -> pd.DataFrame:
    """Every verdict that counts, appeals left out.

    Args:
        tables: what was read.
        gold: post_id, category, label (1 violation, 0 none) of items whose truth was adjudicated.
        as_of: later verdicts are unknown.

    Returns:
        the columns of evaluation/weekly/reviewers.py, and post_id; item_id is post_id.
    """
    known = verdicts.standing(tables.outcomes[tables.outcomes.source != contracts.APPEAL], as_of)
    counted = verdicts.counting_votes(known).rename(columns={"vote": "verdict"})
    named = counted.merge(tables.posts[["post_id", "language"]], on="post_id", how="left", validate="many_to_one")
    named = named.merge(gold.rename(columns={"label": "gold"}), on=KEY, how="left", validate="many_to_one")
    return named.assign(item_id=named.post_id, language=named.language.fillna(contracts.UNDETERMINED))


def describe_reviewers(counted: pd.DataFrame, rows: pd.DataFrame, section: Reviewers) -> dict[str, Any]:
    """Agreement per category and language, who could be compared with colleagues on how many items (`shared`, least and most), and whose
    verdicts deviate.

    Args:
        counted: of `votes`.
        rows: the week's score table; only verdicts on its items enter.
    """
    items = rows[["item_id", "category"]].drop_duplicates()
    own = counted.merge(items, on=["item_id", "category"], validate="many_to_one")
    summary = {"num_reviewers": int(own.reviewer_id.nunique()), "num_verdicts": len(own), "agreement": [], "flagged": []}
    summary |= {"num_compared": 0, "shared": None, "not_compared": dict.fromkeys(("alone", "tied", "no_colleague"), 0)}
    if own.empty:
        return summary
    agreement = reviewers.krippendorff(own)
    compared = reviewers.deviating(own, section.level)
    flagged = compared[compared.flagged].sort_values("p_adjusted")
    summary["agreement"] = [
        {**row, "alpha": None if pd.isna(row["alpha"]) else float(row["alpha"])} for row in agreement.to_dict("records")
    ]
    shared = compared.groupby("reviewer_id").num.sum()
    summary["num_compared"], summary["not_compared"] = len(shared), reviewers.not_compared(own, compared)
    summary["shared"] = None if shared.empty else [int(shared.min()), int(shared.max())]
    summary["flagged"] = flagged[["reviewer_id", "reference", "num", "num_disagreements", "expected", "p_adjusted"]].to_dict("records")
    return summary


def on_decisions(counted: pd.DataFrame, rows: pd.DataFrame, week: str) -> pd.DataFrame:
    """Verdicts with the score at which their post was decided, as `deviation.over_windows` wants them, and item_id.

    Args:
        counted: of `votes`.
        rows: the week's score table; of a post that several models decided, the last one's score.
        week: ISO week of the decisions.
    """
    decided = rows.drop_duplicates(["item_id", "category"], keep="last")[["item_id", "category", "score", "zone"]]
    return counted.merge(decided, on=["item_id", "category"], validate="many_to_one").assign(week=week)


def describe_deviation(judged: Sequence[pd.DataFrame], section: Reviewers) -> dict[str, Any]:
    """Whose verdicts differ from what colleagues say of like items, whether or not anybody else saw the same item.

    Items of known truth are left out: they reach reviewers by choice.

    Args:
        judged: of `on_decisions`, for each of the last weeks.
        section: level and margin.

    Returns:
        weeks: the first and the last; num_reviewers, num_compared, too_few (see `deviation.Found`); routed: of `deviation.routed`.
        accused: those who differ by more than the margin that honest people have; look: by more than chance alone. Each has reviewer_id,
        kind, num, num_confirmed, expected, p_adjusted, weeks (how many show it best), history (week, num, num_confirmed and expected of
        each) and items: the latest whose verdict least fits what colleagues say of like ones, {item_id, category, score, confirmed, share}.
    """
    verdicts = pd.concat([part[part.gold.isna()] for part in judged], ignore_index=True)
    accused = deviation.over_windows(verdicts, section, odds=section.margin_odds, flips=section.margin_flips)
    chance = deviation.over_windows(verdicts, section, odds=1.0, flips=0.0)
    named = set(accused.flagged.reviewer_id)

    def cases(found: deviation.Found, without: set[str]) -> list[dict[str, Any]]:
        rows: list[Any] = found.flagged[~found.flagged.reviewer_id.isin(without)].to_dict("records")
        beside = verdicts[~verdicts.reviewer_id.isin(named)]
        return [{**row, **_evidence(beside, verdicts[verdicts.reviewer_id == row["reviewer_id"]])} for row in rows]

    return {
        "weeks": [min(verdicts.week), max(verdicts.week)] if len(verdicts) else [],
        "num_reviewers": accused.num_reviewers,
        "num_compared": accused.num_compared,
        "too_few": accused.too_few,
        "routed": deviation.routed(verdicts, section.level).to_dict("records"),
        "accused": cases(accused, set()),
        "look": cases(chance, named),
    }


def _evidence(colleagues: pd.DataFrame, own: pd.DataFrame) -> dict[str, Any]:
    """Weeks and items of a reviewer beside colleagues who were not accused themselves."""
    name = own.reviewer_id.iloc[0]
    beside = deviation.beside_colleagues(pd.concat([colleagues[colleagues.reviewer_id != name], own], ignore_index=True), name)
    history = [
        {"week": str(week), "num": len(rows), "num_confirmed": int(rows.verdict.sum()), "expected": float(rows.share.sum())}
        for week, rows in beside.groupby("week")
    ]
    odd = beside.assign(gap=(beside.verdict - beside.share).abs()).sort_values(["week", "gap", "item_id"], ascending=[False, False, True])
    odd = odd[odd.gap > 0.5].head(MAX_ITEMS).assign(confirmed=odd.verdict == 1)
    return {"history": history, "items": odd[["item_id", "category", "score", "confirmed", "share"]].to_dict("records")}


def corrected_precision(
    rows: pd.DataFrame, cube: Cube, points: Mapping[str, OperatingPoint], counted: pd.DataFrame, section: Reviewers
) -> list[dict[str, Any]]:
    """Precision of automatic removals as it would be if reviewers never erred, per category; refused with a reason without gold.

    Args:
        rows: the week's score table.
        cube: the same rows, counted.
        points: thresholds in force.
        counted: of `votes`, for gold of any week.
    """
    corrected = []
    for category in cube.categories:
        removed = rows[(rows.category == category) & (rows.action == "auto_remove") & rows.label.notna()]
        weight, right = (1 / removed.inclusion_prob).to_numpy(), removed.label.to_numpy() == 1
        largest = cut_max_weight(one_category(cube, category), [points[category].cuts])[0, REMOVED]
        sums = (len(removed), weight[right].sum(), (weight[right] ** 2).sum(), weight.sum(), (weight**2).sum(), largest, largest)
        known = counted[(counted.category == category) & counted.gold.notna()]
        true, seen = known.gold == 1, known.verdict == 1
        gold = reviewers.Gold(*(np.float64(mask.sum()) for mask in (true, true & seen, ~true, ~true & ~seen)))
        found = reviewers.correct(Cells(*(np.asarray(value, np.float64) for value in sums)), gold, section)
        refused = found.refused[()]
        corrected.append(
            {
                "category": category,
                "point": None if refused else float(found.point),
                "lower": None if refused else float(found.lower),
                "refused": refused,
                "gold_violations": int(true.sum()),
                "gold_others": int((~true).sum()),
            }
        )
    return corrected


def describe_appeals(tables: Tables, rows: pd.DataFrame, wrongful: Mapping[str, Any], as_of: pd.Timestamp) -> list[dict[str, Any]]:
    """What users appealed, beside what the audit says of the same automatic removals; the two are never pooled.

    Args:
        tables: what was read.
        rows: the week's score table of one model.
        wrongful: category -> row of the metric wrongful_removal_share, {value, ci_low, ci_high, n}.
        as_of: later appeals are unknown.

    Returns:
        per category with a removal or an appeal: removals, appealed, decided, overturned, share_overturned, audit (the metric's row),
        wrong_low and wrong_high (how many of all removals the audit puts as wrong; None without an audit).
    """
    known = verdicts.standing(tables.outcomes[tables.outcomes.source == contracts.APPEAL], as_of)
    last = known.sort_values(["reviewed_at", "outcome_id"]).drop_duplicates(KEY, keep="last")[[*KEY, "verdict"]]
    removed = rows[rows.action == "auto_remove"].merge(
        last, left_on=["item_id", "category"], right_on=KEY, how="left", validate="one_to_one", suffixes=("", "_appeal")
    )
    described = []
    for category, part in removed.groupby("category"):
        decided = part.verdict.isin(list(verdicts.VOTES))
        num_decided, overturned = int(decided.sum()), int((part.verdict == "restore").sum())
        audit = wrongful.get(str(category))
        low, high = (None if audit is None or audit[end] is None else audit[end] * len(part) for end in ("ci_low", "ci_high"))
        described.append(
            {
                "category": category,
                "removals": len(part),
                "appealed": int(part.verdict.notna().sum()),
                "decided": num_decided,
                "overturned": overturned,
                "share_overturned": overturned / num_decided if num_decided else None,
                "audit": audit,
                "wrong_low": low,
                "wrong_high": high,
            }
        )
    return described
