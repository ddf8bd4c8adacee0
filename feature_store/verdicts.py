"""Which verdicts of the review outcomes count, and how each item came to be reviewed."""

import pandas as pd

ITEM = ["post_id", "category"]
# Which part of the traffic a draw looked at. An appeal answers no draw.
ZONES = {"queue": "review", "audit_removed": "auto_remove", "audit_passed": "none"}
VOTES = {"restore": 0, "confirm_removal": 1}


def standing(outcomes: pd.DataFrame, as_of: pd.Timestamp) -> pd.DataFrame:
    """The highest revision of each outcome among the rows known at `as_of`, in order of outcome_id."""
    known = outcomes["reviewed_at"] <= as_of
    if "recorded_at" in outcomes:
        known &= outcomes["recorded_at"] <= as_of
    return outcomes[known].sort_values(["outcome_id", "revision"]).drop_duplicates("outcome_id", keep="last")


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
    outcomes takes both from the earliest, for later reviews of a drawn item do not change how it was drawn.

    Args:
        known: standing outcomes, one row per outcome_id.

    Returns:
        post_id, category, evidence ("sample" or "appeal"), inclusion_prob (float64 or null), zone (auto_remove, review, none, or null),
        labelled_at (time of the last review).
    """
    ordered = known.sort_values([*ITEM, "reviewed_at", "outcome_id"])
    drawn = ordered[ordered["source"].isin(list(ZONES))].drop_duplicates(ITEM)
    drawn = drawn.assign(zone=drawn["source"].map(ZONES), evidence="sample")[[*ITEM, "evidence", "inclusion_prob", "zone"]]
    items = ordered.groupby(ITEM)["reviewed_at"].max().rename("labelled_at").reset_index().merge(drawn, on=ITEM, how="left", validate="1:1")
    return items.assign(evidence=items["evidence"].fillna("appeal"))
