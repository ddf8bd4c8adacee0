"""A sample world whose decisions come from an n-gram regression: the incumbent of `incumbent.py --world SEED`, with the truth known.

The incumbent is fitted on the posts of the two weeks before the first, with their true labels; then it decides, and the world's reviewers
answer a draw on its decisions, as they do on those of the world's own scorer. Texts alone: pictures and sounds are left out.
"""

from datetime import timedelta

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from upheld.common.params.data import SampleData
from upheld.feature_store.sample_world.command import calendar
from upheld.feature_store.sample_world.moderation import answer, appeal, draw, staff
from upheld.feature_store.sample_world.posts import write

NUM_BEFORE = 2  # weeks that the incumbent learns from


def make(settings: SampleData, seed: int, num_weeks: int, posts_per_week: int) -> dict[str, pd.DataFrame]:
    """The tables as a ledger gives them, and `truth`: post_id, category, label of every post.

    Args:
        settings: section `sample_data` of the params; says how much is drawn for review and from which score on posts are removed.
        seed: of the world.
        num_weeks: of the stream, after the weeks that the incumbent learns from.
        posts_per_week: in each.
    """
    weeks = calendar(settings, seed, settings.origin_week, NUM_BEFORE + num_weeks)
    made = [write(week, settings, posts_per_week) for week in weeks]
    past = pd.concat([one.posts for one in made[:NUM_BEFORE]], ignore_index=True)
    vectoriser = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), min_df=2, sublinear_tf=True)
    features = vectoriser.fit_transform(past["text"].fillna(""))
    known = pd.concat([one.truth for one in made[:NUM_BEFORE]]).pivot(index="post_id", columns="category", values="label")
    labels = known.loc[past["post_id"]]
    incumbent = {name: LogisticRegression(C=2.0, max_iter=1000).fit(features, labels[name]) for name in labels}
    reviewers = staff(seed, settings.num_reviewers)
    tables: dict[str, list[pd.DataFrame]] = {"posts": [], "decisions": [], "review_outcomes": [], "truth": []}
    for number, (week, one) in enumerate(zip(weeks[NUM_BEFORE:], made[NUM_BEFORE:], strict=True), 1):
        posts = one.posts.assign(media=[[] for _ in range(len(one.posts))], week=number)
        seen = vectoriser.transform(posts["text"].fillna(""))
        scores = {name: model.predict_proba(seen)[:, 1] for name, model in incumbent.items()}
        decided = _decided(posts, scores, settings)
        answers = answer(draw(week, settings, decided), one.truth, reviewers, seed)
        removed = decided[decided["action"] == "auto_remove"].merge(one.truth, on=["post_id", "category"], validate="one_to_one")
        outcomes = pd.concat([answers, appeal(removed, reviewers, seed)], ignore_index=True)
        for name, table in (("posts", posts), ("decisions", decided), ("review_outcomes", outcomes), ("truth", one.truth)):
            tables[name].append(table)
    whole = {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()}
    for table, column in (("posts", "created_at"), ("decisions", "decided_at"), ("review_outcomes", "reviewed_at")):
        whole[table][column] = pd.to_datetime(whole[table][column], utc=True).astype("datetime64[us, UTC]")
    whole["posts"]["recorded_at"] = whole["posts"]["created_at"]
    whole["review_outcomes"]["recorded_at"] = whole["review_outcomes"]["reviewed_at"]
    whole["review_outcomes"] = whole["review_outcomes"].drop(columns="draw_id")
    return whole


def _decided(posts: pd.DataFrame, scores: dict[str, np.ndarray], settings: SampleData) -> pd.DataFrame:
    """Decisions in the delivery contract; a post's own moment and name make each unique."""
    parts = []
    for category, score in scores.items():
        action = np.select([score >= settings.thr_auto_remove, score >= settings.thr_review], ["auto_remove", "review"], "none")
        part = pd.DataFrame({"decision_id": category + "/" + posts["post_id"], "post_id": posts["post_id"], "category": category})
        parts.append(part.assign(score=score, action=action, decided_at=posts["created_at"] + timedelta(seconds=1)))
    return pd.concat(parts, ignore_index=True).assign(model_version="ngram-regression-1")
