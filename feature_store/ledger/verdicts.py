"""Which verdicts of the review outcomes count, and how each item came to be reviewed."""

from collections.abc import Iterable

import pandas as pd

from upheld.feature_store.contracts.tables import TARGETED
from upheld.feature_store.contracts.workspace import Hold

ITEM = ["post_id", "category"]
# Which part of the traffic a draw looked at. An appeal answers no draw.
ZONES = {"queue": "review", "audit_removed": "auto_remove", "audit_passed": "none"}
VOTES = {"restore": 0, "confirm_removal": 1}


def for_estimates(outcomes: pd.DataFrame) -> pd.DataFrame:
    """The outcomes that an estimate may rest on: not those that were asked for because a model doubted a label.

    Where labels are judged again if and only if a model contradicts them, its errors are mended and those that it shares are not: what is
    left agrees with it more than the truth does.
    """
    return outcomes[outcomes["source"] != TARGETED]


def without_held(outcomes: pd.DataFrame, held: Iterable[Hold]) -> pd.DataFrame:
    """The outcomes, those of held reviewers left out that were given from the hold's time on; an item that had no others has no verdict.

    Args:
        outcomes: rows of review_outcomes with reviewer_id and reviewed_at.
        held: the holds that stand.
    """
    out = pd.Series(False, index=outcomes.index)
    for hold in held:
        out |= (outcomes["reviewer_id"] == hold.reviewer_id) & (outcomes["reviewed_at"] >= pd.Timestamp(hold.since))
    return outcomes[~out]


def weighed(outcomes: pd.DataFrame, draws: pd.DataFrame) -> pd.DataFrame:
    """The outcomes, those of a post and category that we drew without inclusion_prob unless they answer that draw.

    Args:
        outcomes: rows of review_outcomes with draw_id.
        draws: draw_id, post_id, category of our own draws, the authority on how an item came to be reviewed.
    """
    drawn, answers = (
        pd.MultiIndex.from_frame(outcomes[names]).isin(pd.MultiIndex.from_frame(draws[names])) for names in (ITEM, [*ITEM, "draw_id"])
    )
    return outcomes.assign(inclusion_prob=outcomes["inclusion_prob"].mask(drawn & ~answers))


def standing(outcomes: pd.DataFrame, as_of: pd.Timestamp) -> pd.DataFrame:
    """The highest revision of each outcome among the rows known at `as_of`, in order of outcome_id.

    Where `recorded_at` is known, it becomes the time at which the outcome's first revision was.
    """
    known = outcomes["reviewed_at"] <= as_of
    if "recorded_at" in outcomes:
        known &= outcomes["recorded_at"] <= as_of
    rows = outcomes[known]
    if "recorded_at" in rows:
        rows = rows.assign(recorded_at=rows.groupby("outcome_id")["recorded_at"].transform("min"))
    return rows.sort_values(["outcome_id", "revision"]).drop_duplicates("outcome_id", keep="last")


def counting_votes(known: pd.DataFrame) -> pd.DataFrame:
    """The verdicts that count: none that an escalation followed, and the latest of each reviewer.

    Args:
        known: standing outcomes, one row per outcome_id.

    Returns:
        post_id, category, reviewer_id, vote (int8; 1 = violation), in that order.
    """
    escalated = known[known["verdict"] == "escalate"].groupby(ITEM)["reviewed_at"].max().rename("escalated_at")
    rows = known[known["verdict"] != "escalate"].join(escalated, on=ITEM)
    rows = rows[rows["escalated_at"].isna() | (rows["reviewed_at"] > rows["escalated_at"])]
    rows = rows.sort_values([*ITEM, "reviewer_id", "reviewed_at", "outcome_id"])
    rows = rows.drop_duplicates([*ITEM, "reviewer_id"], keep="last").assign(vote=lambda votes: votes["verdict"].map(VOTES).astype("int8"))
    return rows[[*ITEM, "reviewer_id", "vote"]].reset_index(drop=True)


def evidence_of(known: pd.DataFrame) -> pd.DataFrame:
    """How each item came to be reviewed.

    An appeal is no probability sample: an item with appeals alone has neither inclusion_prob nor zone. An item with several sampled
    outcomes takes both from the first: of those recorded first, where that is known, the one reviewed first. Later reviews of a drawn
    item do not change how it was drawn, and a time of review can be made up. An outcome without inclusion_prob (see `weighed`) counts as
    an appeal does.

    Args:
        known: standing outcomes, one row per outcome_id.

    Returns:
        post_id, category, evidence ("sample" or "appeal"), inclusion_prob (float64 or null), zone (auto_remove, review, none, or null),
        labelled_at (time of the last review).
    """
    first = [name for name in ("recorded_at", "reviewed_at", "outcome_id") if name in known]
    ordered = known.sort_values([*ITEM, *first])
    drawn = ordered[ordered["source"].isin(list(ZONES)) & ordered["inclusion_prob"].notna()].drop_duplicates(ITEM)
    drawn = drawn.assign(zone=drawn["source"].map(ZONES), evidence="sample")[[*ITEM, "evidence", "inclusion_prob", "zone"]]
    items = ordered.groupby(ITEM)["reviewed_at"].max().rename("labelled_at").reset_index().merge(drawn, on=ITEM, how="left", validate="1:1")
    return items.assign(evidence=items["evidence"].fillna("appeal"))
