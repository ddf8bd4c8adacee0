"""Simulated reviewers with known error rates; the truth is the oracle."""

import numpy as np
import pandas as pd
import pytest

from upheld.feature_store.snapshot.label_aggregation import soft_labels


def world(seed: int, num_items: int, num_votes: int, num_reviewers: int, prevalence: float) -> tuple[pd.DataFrame, pd.Series]:
    """Votes of reviewers whose accuracy on each class lies between .6 and .97, and the truth of each item."""
    rng = np.random.default_rng(seed)
    truth = pd.Series(rng.random(num_items) < prevalence, index=[f"p{number:05}" for number in range(num_items)]).astype(int)
    accuracy = rng.uniform(0.6, 0.97, (num_reviewers, 2))
    rows = [
        (post, f"r{reviewer}", int(actual if rng.random() < accuracy[reviewer, actual] else 1 - actual))
        for post, actual in truth.items()
        for reviewer in rng.choice(num_reviewers, num_votes, replace=False)
    ]
    return pd.DataFrame(rows, columns=["post_id", "reviewer_id", "vote"]), truth


def brier(probs: pd.Series, truth: pd.Series) -> float:
    return float(((probs.reindex(truth.index) - truth) ** 2).mean())


@pytest.mark.parametrize(("num_items", "num_votes", "prevalence"), [(100, 3, 0.3), (300, 2, 0.3), (1000, 3, 0.1)])
def test_beats_the_share_of_votes(num_items: int, num_votes: int, prevalence: float) -> None:
    ours, share = [], []
    for seed in range(3):
        votes, truth = world(seed, num_items, num_votes, num_reviewers=30, prevalence=prevalence)
        ours.append(brier(soft_labels(votes), truth))
        share.append(brier(votes.groupby("post_id")["vote"].mean(), truth))
    assert np.mean(ours) < 0.9 * np.mean(share)


def test_majority_vote_is_wrong_more_often() -> None:
    """Five reviewers guess, two know: where the majority counts heads, the model learns whom to believe."""
    rng = np.random.default_rng(0)
    truth = pd.Series(rng.integers(0, 2, 400), index=[f"p{number:03}" for number in range(400)])
    accuracy = [0.97, 0.97, 0.52, 0.52, 0.52, 0.52, 0.52]
    rows = [(p, f"r{r}", int(y if rng.random() < a else 1 - y)) for p, y in truth.items() for r, a in enumerate(accuracy)]
    votes = pd.DataFrame(rows, columns=["post_id", "reviewer_id", "vote"])
    majority = (votes.groupby("post_id")["vote"].mean() > 0.5).astype(int)
    ours = (soft_labels(votes) > 0.5).astype(int)
    assert (ours == truth).mean() > 0.93 > (majority == truth).mean() + 0.05


def test_few_votes_do_not_make_certainty() -> None:
    votes = pd.DataFrame({"post_id": ["a", "a"], "reviewer_id": ["r1", "r2"], "vote": [1, 0]})
    assert soft_labels(votes)["a"] == pytest.approx(0.5)


def test_second_reviews_of_doubted_labels_are_weighed_by_what_is_known_of_reviewers_and_tell_nothing_of_them() -> None:
    """Bayes' rule with the true rates is the oracle: two reviewers of known worth, and one whom nobody can compare."""
    rng = np.random.default_rng(0)
    truth = pd.Series(rng.integers(0, 2, 3000), index=[f"p{number:04}" for number in range(3000)])
    accuracy = {"good": 0.95, "poor": 0.7, "third": 0.85}
    rows = [(p, name, int(y if rng.random() < right else 1 - y)) for p, y in truth.items() for name, right in accuracy.items()]
    votes = pd.DataFrame(rows, columns=["post_id", "reviewer_id", "vote"])
    cases = {"a": {"good": 1, "poor": 0}, "b": {"good": 0, "poor": 1}, "c": {"new": 1, "poor": 0}, "d": {"new": 1, "poor": 1, "good": 0}}
    doubted = pd.DataFrame([(p, *vote) for p, said in cases.items() for vote in said.items()], columns=list(votes))
    for _ in range(40):  # somebody who contradicts everybody, as whoever looks at likely errors does
        doubted.loc[len(doubted)] = [f"x{len(doubted)}", "new", 1]
        doubted.loc[len(doubted)] = [f"x{len(doubted) - 1}", "good", 0]
    found = soft_labels(votes, doubted)
    for post, said in cases.items():
        rates = {name: (accuracy | {"new": 0.8})[name] for name in said}
        like = [np.prod([rates[name] if vote == y else 1 - rates[name] for name, vote in said.items()]) for y in (0, 1)]
        assert found[post] == pytest.approx(like[1] / sum(like), abs=0.05), post
    pd.testing.assert_series_equal(found[truth.index], soft_labels(votes), check_exact=True)
    own = doubted[doubted["post_id"] == "a"].assign(post_id="p0000")
    again = soft_labels(votes, own)
    assert again["p0000"] == pytest.approx(found["a"]) and again.index.is_unique
    alone = soft_labels(votes.head(0), doubted)
    assert alone["a"] == 0.5 and alone["d"] == pytest.approx(0.8)  # two against one, and nothing is known of any


def test_order_of_rows_does_not_matter() -> None:
    votes, _ = world(7, 60, 3, 8, 0.4)
    shuffled = votes.sample(frac=1, random_state=1)
    pd.testing.assert_series_equal(soft_labels(votes), soft_labels(shuffled), check_exact=True)
