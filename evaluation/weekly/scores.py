"""The score table of a week, and the thresholds that its decisions show."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from upheld.evaluation.cube.bins import NUM_BINS, bin_of, edges
from upheld.evaluation.thresholds.operating_point import OperatingPoint
from upheld.evaluation.weekly.source import Tables
from upheld.feature_store.contracts import tables as contracts
from upheld.feature_store.decisions.thresholds import Category, Certificate, LanguageRule, Removal, Thresholds
from upheld.feature_store.ledger import verdicts

COLUMNS = ["item_id", "category", "language", "score", "label", "inclusion_prob", "zone", "region", "author_group", "period", "synthetic"]


def build(tables: Tables, week: str, as_of: pd.Timestamp) -> pd.DataFrame:
    """Decisions of the week with the language of their post and the label of their audit, joined by post and category.

    Args:
        tables: what was read.
        week: goes into `period`.
        as_of: outcomes reviewed or recorded later are unknown.

    Returns:
        one row a post, category and model version, ordered by these: COLUMNS of the scores contract, action and model_version. label is the
        majority of the verdicts that count (1 violation, 0 none; null where nobody audited it, where they are split, or where an escalation
        stands). Appeals give no label: they are no probability sample; nor does a post that we drew as long as nobody answered our draw.
        Rows that nobody drew have no inclusion_prob; zone is the draw's, else the action's.
    """
    key = ["post_id", "category"]
    decided = tables.decisions.sort_values("decided_at", kind="stable").drop_duplicates([*key, "model_version"], keep="last")
    known = verdicts.standing(tables.outcomes[tables.outcomes.source != contracts.APPEAL], as_of)
    share = verdicts.counting_votes(known).groupby(key).vote.mean().rename("share").reset_index()
    audited = verdicts.evidence_of(known)[[*key, "inclusion_prob", "zone"]].dropna(subset="inclusion_prob")
    audited = audited.merge(share, on=key, how="left", validate="1:1")
    rows = decided.merge(tables.posts, on="post_id", how="left", validate="many_to_one").merge(audited, on=key, how="left", validate="m:1")
    rows = rows.assign(
        item_id=rows.post_id,
        language=contracts.nameable(rows.language.fillna(contracts.UNDETERMINED).astype("str")),
        author_group=rows.author_group.mask(rows.author_group == contracts.POOLED, f"({contracts.POOLED})"),
        label=np.select([rows.share > 0.5, rows.share < 0.5], [1.0, 0.0], np.nan),
        zone=rows.zone.fillna(rows.action),
        period=week,
        synthetic=tables.synthetic,
    )
    rows = rows.astype({"inclusion_prob": "float64", "score": "float64", "region": "str", "author_group": "str"})
    return rows.sort_values(["item_id", "category", "model_version"], ignore_index=True)[[*COLUMNS, "action", "model_version"]]


def shown_thresholds(rows: pd.DataFrame) -> Thresholds:
    """The thresholds that the actions of one model show: for each category the bin edges that best separate them.

    Args:
        rows: category, language, score, action.

    Returns:
        thresholds with the outcome "in force"; one is None where no post got the action. In a language where
        posts above the removal threshold were never removed, automatic removal is off.
    """
    categories = {}
    for category, part in rows.groupby("category", sort=True):
        on = sorted(set(part.language[part.action == "auto_remove"]))
        among = part[part.language.isin(on)]
        removal = _boundary(among.score, among.action == "auto_remove")
        above = part.score >= (np.inf if removal is None else removal)
        off = set(part.language[above]) - set(on)
        languages = {name: LanguageRule(action="review" if name in off else "auto_remove") for name in sorted(set(part.language))}
        review = _boundary(part.score, part.action != "none")
        categories[str(category)] = Category(
            auto_remove=Removal(threshold=removal, outcome="in force", languages=languages),
            review=Certificate(threshold=review, outcome="unknown, as no post reached it" if review is None else "in force"),
        )
    return Thresholds(categories=categories)


def num_otherwise(rows: pd.DataFrame, points: Mapping[str, OperatingPoint]) -> int:
    """Decisions that differ from what the thresholds in force say of their score: a change within the week, or another rule."""
    total = 0
    for category, part in rows.groupby("category"):
        point, bins = points[str(category)], bin_of(part.score.to_numpy())
        above = bins >= point.auto_remove
        removed = above & ~part.language.isin(point.languages_off).to_numpy()
        by_rule = np.select([removed, above | (bins >= point.review)], ["auto_remove", "review"], "none")
        # A threshold that is no bin edge divides a bin; and where no post was reviewed, nothing shows from which score on that would be.
        near = np.isin(bins, [edge - step for edge in (point.auto_remove, point.review) for step in (0, 1)])
        total += int(((by_rule != part.action.to_numpy()) & ~near & ~(bool(point.note) & (by_rule == "review"))).sum())
    return total


def _boundary(score: pd.Series, hit: pd.Series) -> float | None:
    """The bin edge with the fewest rows on the wrong side, of such ones the highest that loses fewest hits; None where there is no hit."""
    if not hit.any():
        return None
    bins = bin_of(score.to_numpy())
    hits, others = (np.bincount(bins[mask], minlength=NUM_BINS) for mask in (hit.to_numpy(), ~hit.to_numpy()))
    lost = hits.cumsum() - hits
    wrong = lost + others[::-1].cumsum()[::-1] + lost / (len(bins) + 1)
    return float(edges()[np.flatnonzero(wrong == wrong.min())[-1]])
