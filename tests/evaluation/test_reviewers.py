"""Agreement against a textbook example; flagged reviewers in panels where the culprits are known."""

import numpy as np
import pandas as pd
import pytest

from evaluation import reviewers


def panel(num_items: int, seed: int, share: float, **habits) -> pd.DataFrame:
    """Three of ten reviewers see each item and err in 6 %; `habits` maps a reviewer to a function of (truth, rng)."""
    rng = np.random.default_rng(seed)
    rows = []
    for item in range(num_items):
        truth = int(rng.random() < share)
        for reviewer in rng.choice(10, 3, replace=False):
            name = f"r{reviewer}"
            verdict = habits[name](truth, rng) if name in habits else truth ^ int(rng.random() < 0.06)
            rows.append((f"i{item}", "spam", "en" if item % 3 else "de", name, verdict, np.nan))
    return pd.DataFrame(rows, columns=["item_id", "category", "language", "reviewer_id", "verdict", "gold"])


def test_alpha_agrees_with_a_count_of_pairs() -> None:
    verdicts = panel(150, 1, 0.4)
    found = reviewers.krippendorff(verdicts).set_index("language")
    for language, rows in verdicts.groupby("language"):
        values = [group.verdict.to_numpy() for _, group in rows.groupby("item_id")]
        observed = sum((v[:, None] != v[None, :]).sum() / (len(v) - 1) for v in values)
        every = np.concatenate(values)
        expected = (every[:, None] != every[None, :]).sum() / (len(every) - 1)
        assert found.alpha[language] == pytest.approx(1 - observed / expected)


def test_alpha_of_krippendorffs_binary_example() -> None:
    """Two observers, ten units (Krippendorff 2011, Computing Krippendorff's alpha-reliability, part A): alpha = .095."""
    first, second = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]
    rows = [(f"u{k}", "c", "en", name, v) for name, values in (("a", first), ("b", second)) for k, v in enumerate(values)]
    found = reviewers.krippendorff(pd.DataFrame(rows, columns=["item_id", "category", "language", "reviewer_id", "verdict"]))
    assert found.alpha[0] == pytest.approx(0.095, abs=5e-4)


def test_alpha_is_undefined_without_pairs_or_variation() -> None:
    one_each = pd.DataFrame({"item_id": ["a", "b"], "category": "c", "language": "en", "reviewer_id": "r", "verdict": [0, 1]})
    same = pd.DataFrame({"item_id": ["a", "a"], "category": "c", "language": "en", "reviewer_id": ["r", "s"], "verdict": [1, 1]})
    assert np.isnan(reviewers.krippendorff(one_each).alpha[0])
    assert reviewers.krippendorff(one_each).num_items[0] == 0
    assert np.isnan(reviewers.krippendorff(same).alpha[0])


@pytest.mark.parametrize(
    ("habit", "share"),
    [
        (lambda truth, rng: int(rng.random() < 0.5), 0.5),  # answers at random
        (lambda truth, rng: 1, 0.9),  # always removes, where nearly all should be removed
        (lambda truth, rng: 0, 0.1),  # always restores, where nearly all should be restored
        (lambda truth, rng: 1 - truth, 0.5),  # the wrong way round
    ],
)
def test_deviating_reviewers_are_flagged_and_only_they(habit, share: float) -> None:
    found = reviewers.deviating(panel(900, 2, share, r3=habit), level=0.05)
    assert set(found[found.flagged].reviewer_id) == {"r3"}


def test_honest_panels_are_seldom_flagged() -> None:
    flagged = [reviewers.deviating(panel(200, seed, 0.5), level=0.05).flagged.any() for seed in range(25)]
    assert np.mean(flagged) <= 0.12


def test_gold_decides_where_there_are_no_co_reviewers() -> None:
    rng = np.random.default_rng(4)
    truth = rng.integers(0, 2, 600)
    names = np.array([f"r{k % 6}" for k in range(600)])
    verdict = np.where(names == "r2", 1, truth)
    rows = pd.DataFrame({"item_id": [f"i{k}" for k in range(600)], "category": "c", "language": "en", "reviewer_id": names})
    found = reviewers.deviating(rows.assign(verdict=verdict, gold=truth), level=0.05)
    assert set(found[found.flagged].reviewer_id) == {"r2"}
    assert found[found.flagged].reference.tolist() == [0]
    assert reviewers.deviating(rows.assign(verdict=verdict, gold=np.nan), level=0.05).empty
