"""How the sample world is moderated: its noisy system's decisions, the audit that is drawn on them, and what its reviewers answer.

Reviewers differ in the languages that they read and in how often they err.
"""

import math
import random
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pandas as pd

from upheld.common.params.data import SampleData
from upheld.feature_store.sample_world.base import identifier, stream
from upheld.feature_store.sample_world.posts import LANGUAGES, Posts, Week

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
SOURCE_OF_ZONE = {"auto_remove": "audit_removed", "review": "queue", "none": "audit_passed", "targeted": "targeted"}

# All that a judgement depends on besides the reviewer. No source: they make a world in which nothing is clean.
_NUM_JUDGES = {1: 0.75, 2: 0.15, 3: 0.10}
_PROB_ESCALATE, _PROB_ESCALATE_HARD, _PROB_RESOLVED, _PROB_CORRECTED = 0.015, 0.10, 0.7, 0.15
_MEAN_HOURS, _MAX_HOURS = 8.0, 60.0


def decide(week: Week, settings: SampleData, made: Posts) -> pd.DataFrame:
    """Decisions on every post and policy of a week, in the delivery contract and in order of time.

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
    """The three-zone audit of a week's decisions (as `decide` returns them): each is drawn by itself with its own probability.

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


def staff(seed: int, num_reviewers: int) -> pd.DataFrame:
    """The reviewers, with what is true of each and no delivery tells.

    Args:
        seed: of the world.
        num_reviewers: how many judge drawn posts; two seniors, who answer escalations and appeals, come on top.

    Returns:
        reviewer_id, languages (list), sensitivity = P(confirms | violates), specificity = P(restores | does not),
        role (`reviewer`, `weak`, `always_confirms`, `senior`), workload (relative share of the draws in his languages).
    """
    rows: list[tuple[list[str], float, float, str, float]] = []
    for number in range(num_reviewers):
        rng = stream(seed, "reviewer", number)
        if number == 0:
            rows.append((list(LANGUAGES), 1.0, 0.0, "always_confirms", 0.15))
            continue
        # Each language is the first skill of every eighth reviewer; the other skills are drawn.
        first = LANGUAGES[number % len(LANGUAGES)]
        languages = [first, *rng.sample([language for language in LANGUAGES if language != first], rng.choice((1, 2, 3)))]
        if number == 1:
            rows.append((languages, 0.72, 0.78, "weak", 0.6))
        else:
            rows.append((languages, rng.uniform(0.86, 0.98), rng.uniform(0.90, 0.99), "reviewer", rng.uniform(0.5, 1.5)))
    seniors = [(list(LANGUAGES), 0.97, 0.98, "senior", 0.0)] * 2
    frame = pd.DataFrame(rows + seniors, columns=["languages", "sensitivity", "specificity", "role", "workload"])
    frame.insert(0, "reviewer_id", [identifier("r", seed, "reviewer", number) for number in range(len(frame))])
    return frame


def answer(draws: pd.DataFrame, truth: pd.DataFrame, reviewers: pd.DataFrame, seed: int) -> pd.DataFrame:
    """What the reviewers say of the posts drawn. Each draw's answers depend on the seed and its draw_id alone.

    Args:
        draws: draw_id (unique), post_id, category, zone, inclusion_prob, drawn_at (UTC).
        truth: post_id, category, language, label (1 violates), hard; holds every post and category drawn.
        reviewers: as `staff` returns them.
        seed: of the world.

    Returns:
        review outcomes in the delivery contract with draw_id, sorted by time; an escalation may be followed by a senior's
        outcome, and an error by its correction (revision 1 of the same outcome).
    """
    drawn = draws.merge(truth, on=["post_id", "category"], validate="many_to_one", suffixes=("_drawn", ""))
    people = reviewers.to_dict("records")
    seniors = [person for person in people if person["role"] == "senior"]
    rows = []
    for draw in drawn.to_dict("records"):
        rng = stream(seed, "answer", draw["draw_id"])
        draw["source"] = SOURCE_OF_ZONE[draw["zone"]]
        right = "confirm_removal" if draw["label"] else "restore"
        able = [person for person in people if person["workload"] and draw["language"] in person["languages"]]
        num_judges = rng.choices(list(_NUM_JUDGES), list(_NUM_JUDGES.values()))[0]
        for number in range(min(num_judges, len(able))):
            judge = rng.choices(able, [person["workload"] for person in able])[0]
            able.remove(judge)
            reviewed_at = draw["drawn_at"] + timedelta(hours=min(rng.expovariate(1 / _MEAN_HOURS), _MAX_HOURS))
            key = identifier("o", seed, draw["draw_id"], number)
            verdict = _verdict(draw, judge, rng, can_escalate=True)
            rows.append(_row(draw, key, judge, verdict, reviewed_at))
            later = reviewed_at + timedelta(hours=rng.uniform(2, 20))
            if verdict == "escalate" and rng.random() < _PROB_RESOLVED:
                senior = rng.choice(seniors)
                verdict = _verdict(draw, senior, rng, can_escalate=False)
                rows.append(_row(draw, identifier("o", seed, draw["draw_id"], number, "senior"), senior, verdict, later))
            elif verdict not in ("escalate", right) and judge["role"] == "reviewer" and rng.random() < _PROB_CORRECTED:
                rows.append(_row(draw, key, judge, right, later) | {"revision": 1})
    return outcome_frame(rows)


def appeal(removed: pd.DataFrame, reviewers: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Appeals of authors against automatic removals, judged by seniors: no probability sample, and so with probability 1.0.

    Args:
        removed: post_id, category, decided_at, label and hard of every removal.
        reviewers: as `staff` returns them.
        seed: of the world.

    Returns:
        review outcomes of source `appeal`; authors appeal against wrong removals far more often than against right ones.
    """
    seniors = reviewers[reviewers.role == "senior"].to_dict("records")
    rows = []
    for case in removed.to_dict("records"):
        rng = stream(seed, "appeal", case["post_id"], case["category"])
        if rng.random() < (0.05 if case["label"] else 0.35):
            case |= {"source": "appeal", "inclusion_prob": 1.0, "draw_id": None}
            key = identifier("o", seed, "appeal", case["post_id"], case["category"])
            verdict = _verdict(case, seniors[0], rng, can_escalate=False)
            rows.append(_row(case, key, seniors[0], verdict, case["decided_at"] + timedelta(hours=rng.uniform(6, 90))))
    return outcome_frame(rows)


def outcome_frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Review outcomes as a table, in order of time."""
    columns = ["outcome_id", "revision", "post_id", "category", "verdict"]
    columns += ["reviewer_id", "reviewed_at", "source", "inclusion_prob", "draw_id"]
    return pd.DataFrame(rows, columns=columns).sort_values(["reviewed_at", "outcome_id", "revision"], ignore_index=True)


def _verdict(draw: Mapping[Any, Any], judge: Mapping[Any, Any], rng: random.Random, can_escalate: bool) -> str:
    escalates = rng.random() < (_PROB_ESCALATE_HARD if draw["hard"] else _PROB_ESCALATE)
    if can_escalate and escalates and judge["role"] != "always_confirms":
        return "escalate"
    prob_confirm = judge["sensitivity"] if draw["label"] else 1 - judge["specificity"]
    return "confirm_removal" if rng.random() < prob_confirm else "restore"


def _row(draw: Mapping[Any, Any], key: str, judge: Mapping[Any, Any], verdict: str, reviewed_at: datetime) -> dict[str, Any]:
    outcome = {"outcome_id": key, "revision": 0, "verdict": verdict, "reviewer_id": judge["reviewer_id"], "reviewed_at": reviewed_at}
    return outcome | {name: draw[name] for name in ("post_id", "category", "source", "inclusion_prob", "draw_id")}
