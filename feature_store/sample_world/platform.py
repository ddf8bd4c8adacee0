"""The system whose decisions the sample world delivers: a noisy baseline, and the audit that is drawn on its decisions."""

import math
from datetime import timedelta

import pandas as pd

from upheld.common.params.data import SampleData
from upheld.feature_store.sample_world.base import identifier, stream
from upheld.feature_store.sample_world.posts import Posts, Week

MODEL_VERSION = "sample-scorer-1"

# Mean and standard deviation of its logit. It catches the plain, misses the veiled, falls for quotations, hardly sees pictures.
_LOGIT = {
    "violating": (1.9, 1.7),
    "veiled": (0.0, 1.6),
    "endorse": (1.0, 1.6),
    "image": (0.7, 1.0),
    "quote": (0.0, 1.4),
    "borderline": (-1.2, 1.3),
    "benign": (-2.2, 1.2),
    "none": (-3.7, 1.5),
}
_DOUBT_PICTURE = 2.6  # what a harmless picture adds to the logits of the policies that pictures may break
_PICTURE_POLICIES = ("graphic_violence", "spam")
_WEAK_LANGUAGES, _WEAK_FACTOR = ("hi", "id"), 0.7
_DECAY_A_WEEK = 0.12  # new words pass it by


def decide(week: Week, settings: SampleData, made: Posts) -> pd.DataFrame:
    """Decisions on every post and policy of a week, in the delivery contract and in order of time.

    Args:
        week: of the posts.
        settings: `thr_auto_remove` and `thr_review` of the actions.
        made: the week's posts and truth.

    Returns:
        decision_id, post_id, decided_at, category, score, action, model_version.
    """
    rng = stream(week.seed, "scorer", week.number)
    posts = made.posts.assign(pictured=made.posts.media.map(bool))[["post_id", "created_at", "pictured"]]
    rows = posts.merge(made.truth, on="post_id", validate="one_to_many").to_dict("records")
    for row in rows:
        mean, spread = _LOGIT[row["stance"]]
        mean += _DOUBT_PICTURE if row["pictured"] and row["stance"] == "none" and row["category"] in _PICTURE_POLICIES else 0
        mean *= _WEAK_FACTOR if row["language"] in _WEAK_LANGUAGES and mean > 0 else 1
        mean -= _DECAY_A_WEEK * (week.number - 1) if row["stance"] == "violating" else 0
        row["score"] = round(1 / (1 + math.exp(-rng.gauss(mean, spread))), 6)
        row["action"] = (
            "auto_remove" if row["score"] >= settings.thr_auto_remove else "review" if row["score"] >= settings.thr_review else "none"
        )
        row["decided_at"] = row["created_at"] + timedelta(milliseconds=rng.randrange(500, 9000))
        row["decision_id"] = identifier("d", week.seed, row["post_id"], row["category"])
    columns = ["decision_id", "post_id", "decided_at", "category", "score", "action"]
    return pd.DataFrame(rows)[columns].assign(model_version=MODEL_VERSION).sort_values(["decided_at", "decision_id"], ignore_index=True)


def draw(week: Week, settings: SampleData, decisions: pd.DataFrame) -> pd.DataFrame:
    """The three-zone audit of a week's decisions: each is drawn by itself with its own probability.

    Args:
        week: of the decisions.
        settings: the probabilities.
        decisions: as `decide` returns them.

    Returns:
        draw_id, post_id, category, zone, inclusion_prob, drawn_at of those that were drawn.
    """
    rng = stream(week.seed, "draw", week.number)
    low, middle, high = settings.prob_audit_passed
    of_zone = {"auto_remove": settings.prob_audit_removed, "review": settings.prob_queue}
    prob = [
        of_zone.get(action, low if score < 0.05 else middle if score < 0.15 else high)
        for score, action in zip(decisions.score, decisions.action, strict=True)
    ]
    taken = pd.Series([rng.random() for _ in prob], index=decisions.index) < pd.Series(prob, index=decisions.index)
    drawn = decisions.assign(inclusion_prob=prob).rename(columns={"decision_id": "draw_id", "action": "zone", "decided_at": "drawn_at"})
    return drawn.loc[taken, ["draw_id", "post_id", "category", "zone", "inclusion_prob", "drawn_at"]]
