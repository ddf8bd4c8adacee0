"""The cap on one reviewer's weight: shares recomputed by explicit loops."""

from collections import defaultdict

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from upheld.feature_store.snapshot.label_aggregation import capped_factors, weights


@settings(max_examples=200, deadline=None)
@example([1.0, 0.485], 0.5)  # just enough reviewers, and a level that rounding puts below the smallest mass
@given(st.lists(st.floats(0.1, 1000), min_size=1, max_size=30), st.floats(0.05, 0.9))
def test_no_mass_exceeds_the_share_and_small_ones_stay(masses: list[float], share: float) -> None:
    factors = capped_factors(np.array(masses), share)
    if len(masses) * share < 1:
        assert factors is None
        return
    after = np.array(masses) * factors
    assert (after <= share * after.sum() * (1 + 1e-9)).all()
    assert ((factors > 0) & (factors <= 1)).all()
    cut = factors < 1
    if cut.any():  # cut no further than needed
        assert after[cut] == pytest.approx(share * after.sum(), rel=1e-6)


def table(num_reviewers: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Reviewer 0 sees every post, the others take turns; a fifth of the posts has two reviewers' verdicts."""
    votes = [(f"p{n}", "spam", "r0") for n in range(100)]
    votes += [(f"p{n}", "spam", f"r{1 + n % (num_reviewers - 1)}") for n in range(0, 100, 5)]
    votes += [(f"q{n}", "spam", f"r{1 + n % (num_reviewers - 1)}") for n in range(40)]
    posts = sorted({post for post, _, _ in votes})
    examples = pd.DataFrame({"post_id": [*posts, "escalated"], "category": "spam", "split": "train"})
    return examples, pd.DataFrame(votes, columns=["post_id", "category", "reviewer_id"])


def test_weights_meet_the_cap_among_training_labels() -> None:
    examples, votes = table(9)
    found, unmet = weights(examples, votes, 0.25)
    assert unmet == []
    of_post = dict(zip(found["post_id"], found["weight"], strict=True))
    assert of_post["escalated"] == 1
    voters = votes.groupby("post_id")["reviewer_id"].agg(list)
    # a post's weight is the mean of its reviewers' factors; a post of one reviewer shows that reviewer's factor
    factor = {names[0]: of_post[post] for post, names in voters.items() if len(names) == 1}
    shares: dict[str, float] = defaultdict(float)
    for names in voters:
        for name in names:
            shares[name] += factor[name] / len(names)
    total = sum(of_post[post] for post in voters.index)
    assert sum(shares.values()) == pytest.approx(total, rel=1e-6)
    assert shares["r0"] / total == pytest.approx(0.25, rel=1e-5)


def test_a_cap_that_cannot_be_met_is_said_and_changes_nothing() -> None:
    examples, votes = table(3)
    found, unmet = weights(examples, votes, 0.2)
    assert (found["weight"] == 1).all()
    assert unmet == [{"split": "train", "category": "spam", "num_reviewers": 3}]
