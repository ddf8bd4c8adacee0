"""Agreement against a textbook example; flagged reviewers in panels where the culprits are known."""

import numpy as np
import pandas as pd
import pytest
from score_worlds import settings

from upheld.evaluation.report import week_story
from upheld.evaluation.weekly import people as week_people
from upheld.evaluation.weekly import reviewers

ON_ITEMS = "with colleagues on the same items more than chance explains"


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


def said_of(rows: list[tuple[str, str, int]]) -> tuple[dict, str]:
    """What the report says of reviewers, from (item, reviewer, verdict)."""
    votes = pd.DataFrame(rows, columns=["item_id", "reviewer_id", "verdict"]).assign(category="spam", language="en", gold=np.nan)
    told = week_people.describe_reviewers(votes, votes[["item_id", "category"]], settings().reviewers)
    return told, " ".join(week_story.compared(told))


def test_who_could_not_be_compared_is_counted_with_the_reason() -> None:
    pairs = [(f"i{k}", name, 1) for k in range(6) for name in ("r1", "r2")] + [("j", "r1", 1), ("j", "r2", 1), ("j", "r3", 1)]
    alone = [("a1", "r4", 1), ("a2", "r5", 0)]
    split = [("s", "r6", 1), ("s", "t1", 0), ("s", "t2", 1), ("s2", "t1", 0), ("s2", "t2", 0)]  # r6 sees one item, a tie of the others
    told, said = said_of([*pairs, *alone, *split])
    assert (told["num_compared"], told["num_reviewers"]) == (5, 8)
    assert told["not_compared"] == {"alone": 2, "tied": 1, "no_colleague": 0}
    assert "5 of 8 reviewers could be compared with colleagues, on 1 to 7 items each." in said
    assert "Why the other 3 could not: 2 judged no item that has a second verdict or a known truth; 1 shares only items" in said
    assert "None of the 5 who were compared disagrees with colleagues on the same items more than chance explains." in said


def test_a_pair_that_disagrees_has_no_colleague_to_be_measured_by() -> None:
    told, said = said_of([("i", "r1", 1), ("i", "r2", 0)])
    assert told["not_compared"] == {"alone": 0, "tied": 0, "no_colleague": 2}
    assert "0 of 2 reviewers could be compared with colleagues, so nothing can be said of any of them." in said
    assert "2 have no colleague with comparable items" in said


def test_nobody_is_cleared_who_could_not_be_compared() -> None:
    for rows in ([], [("i", "r1", 1)], [("i", "r1", 1), ("j", "r2", 1)]):
        told, said = said_of(rows)
        assert told["num_compared"] == 0
        assert "nothing can be said of any" in said
        assert "chance" not in said
    assert "0 of 1 reviewer could" in said_of([("i", "r1", 1)])[1]


def test_every_reviewer_is_either_compared_or_counted() -> None:
    rows = [(row.item_id, row.reviewer_id, row.verdict) for seed in range(3) for row in panel(4, seed, 0.5).itertuples()]
    for num in range(1, len(rows)):
        told, _ = said_of(list(dict.fromkeys(rows[:num])))
        assert told["num_compared"] + sum(told["not_compared"].values()) == told["num_reviewers"]


@pytest.mark.parametrize(
    ("flagged", "said"),
    [
        ([("r1", 5, 5, 0.3)], f"One reviewer disagrees {ON_ITEMS}: r1 (5 of 5 items; 0.3 expected)."),
        ([("r1", 5, 5, 0.3), ("r1", 2, 3, 0.2)], f"One reviewer disagrees {ON_ITEMS}: r1 (7 of 8 items; 0.5"),
        ([("r1", 5, 5, 0.3), ("r2", 1, 1, 0.0)],
         f"2 reviewers disagree {ON_ITEMS}: r1 (5 of 5 items; 0.3 expected) and r2 (1 of 1 item; 0.0"),
    ],
)  # fmt: skip
def test_the_first_screen_names_who_disagrees(flagged: list, said: str) -> None:
    names = ("reviewer_id", "num_disagreements", "num", "expected")
    told = {"reviewers": {"flagged": [dict(zip(names, row, strict=True)) for row in flagged]}}
    (item,) = week_story._reviewers(told)
    assert item["text"].startswith(said)
    assert list(week_story._reviewers({"reviewers": {"flagged": []}})) == []
