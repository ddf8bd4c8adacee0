"""Deliveries of one week or more whose truth is known, for the tests of the weekly report."""

from pathlib import Path

import numpy as np
import pandas as pd

MONDAY = pd.Timestamp("2026-10-19", tz="UTC")  # of 2026-W43
PROBS = {"auto_remove": 0.5, "review": 0.8, "none": 0.2}
SOURCES = {"auto_remove": "audit_removed", "review": "queue", "none": "audit_passed"}


def tables(
    num_posts: int = 1500, seed: int = 0, models=("m-1",), start: pd.Timestamp = MONDAY, share: float = 0.25
) -> dict[str, pd.DataFrame]:
    """posts, decisions and review_outcomes; models serve one after the other through the week."""
    rng = np.random.default_rng(seed)
    ids = [f"{start:%m%d}-{number}" for number in range(num_posts)]
    language = rng.choice(["en", "de", "sw"], num_posts, p=[0.6, 0.35, 0.05])
    violation = rng.random(num_posts) < share
    score = 1 / (1 + np.exp(-rng.normal(np.where(violation, 2.5, -2.5), 1.5)))
    action = np.select([score >= 0.9, score >= 0.5], ["auto_remove", "review"], "none")
    model = np.array(models)[np.arange(num_posts) * len(models) // num_posts]
    times = start + pd.to_timedelta(np.arange(num_posts) * (6.5 * 86400 / num_posts), unit="s")
    posts = pd.DataFrame({"post_id": ids, "created_at": times, "language": language, "region": None, "text": "x"})
    decisions = pd.DataFrame(
        {"decision_id": [f"d-{name}" for name in ids], "post_id": ids, "decided_at": times, "category": "spam", "score": score,
         "action": action, "model_version": model}
    )  # fmt: skip
    prob = np.array([PROBS[name] for name in action])
    drawn = rng.random(num_posts) < prob
    verdict = np.where(violation, "confirm_removal", "restore")
    outcomes = pd.DataFrame(
        {"outcome_id": [f"o-{name}" for name in ids], "revision": 0, "post_id": ids, "category": "spam", "verdict": verdict,
         "reviewer_id": rng.choice(["r1", "r2", "r3"], num_posts), "reviewed_at": times + pd.Timedelta(hours=5),
         "source": [SOURCES[name] for name in action], "inclusion_prob": prob}
    )[drawn]  # fmt: skip
    return {"posts": posts, "decisions": decisions, "review_outcomes": outcomes.reset_index(drop=True)}


def appeals(of: dict[str, pd.DataFrame], num: int, verdict: str) -> pd.DataFrame:
    """Appeals against the first automatic removals."""
    removed = of["decisions"].query("action == 'auto_remove'").head(num)
    return pd.DataFrame(
        {"outcome_id": [f"a-{name}" for name in removed.post_id], "revision": 0, "post_id": removed.post_id, "category": "spam",
         "verdict": verdict, "reviewer_id": "r9", "reviewed_at": removed.decided_at + pd.Timedelta(hours=9), "source": "appeal",
         "inclusion_prob": 1.0}
    )  # fmt: skip


def deliver(folder: Path, *made: dict[str, pd.DataFrame]) -> Path:
    """Write a delivery, one file a table and part."""
    for name in ("posts", "decisions", "review_outcomes"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number, part in enumerate(made):
            part[name].to_parquet(folder / name / f"part-{number}.parquet", index=False)
    return folder
