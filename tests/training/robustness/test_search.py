"""The search fools a toy model with fewer characters than attacks that are drawn, whichever posts stand beside the one attacked."""

import numpy as np
import pytest

from upheld.training.robustness.search import search
from upheld.training.robustness.words import ATTACKS, attacked, chance

BUDGET = 6


def run(toy, rows=None, budget=BUDGET, threshold=0.5, seed=1):
    rows = range(len(toy.texts)) if rows is None else rows
    texts, names = [toy.texts[row] for row in rows], [toy.names[row] for row in rows]
    return search(texts, names, toy.score, np.full(len(texts), threshold, np.float32), budget, seed)


def drawn(toy, name):
    return [attacked(text, ATTACKS[name], chance(1, name, post), 0.5) for text, post in zip(toy.texts, toy.names, strict=True)]


def share_found(toy, texts):
    return float((toy.score(range(len(texts)), texts) >= 0.5).mean())


def test_drawn_attacks_lower_the_recall_of_a_model_of_spellings(toy) -> None:
    assert share_found(toy, toy.texts) > 0.95
    for name in ("swap", "spacing", "leetspeak", "homoglyphs"):
        assert share_found(toy, [one.text for one in drawn(toy, name)]) < 0.9, name


def test_the_search_beats_every_drawn_attack_with_no_more_edits(toy) -> None:
    for name in ("swap", "zero_width", "spacing", "leetspeak", "homoglyphs", "repeat", "drop"):
        others = drawn(toy, name)
        budget = int(np.mean([one.edits for one in others]))
        found = run(toy, budget=budget)
        assert np.mean([one.edits for one in found]) <= np.mean([one.edits for one in others])
        assert share_found(toy, [one.text for one in found]) < share_found(toy, [one.text for one in others]) - 0.1, name


@pytest.mark.parametrize("budget", [1, 2, 5])
def test_the_budget_holds_and_more_of_it_fools_more(toy, budget: int) -> None:
    found = run(toy, budget=budget)
    assert max(one.edits for one in found) <= budget
    assert share_found(toy, [one.text for one in run(toy, budget=budget + 2)]) < share_found(toy, [one.text for one in found])


def test_it_ends_as_soon_as_a_text_is_below_its_threshold(toy) -> None:
    early, late = run(toy, threshold=0.5, budget=40), run(toy, threshold=0.2, budget=40)
    assert share_found(toy, [one.text for one in early]) == 0.0
    assert sum(one.edits for one in early) < sum(one.edits for one in late)


def test_a_post_s_result_depends_on_no_other_and_on_no_order(toy) -> None:
    whole = run(toy)
    order = np.random.default_rng(4).permutation(len(toy.texts))[:25].tolist()
    assert run(toy, order) == [whole[row] for row in order]
    assert run(toy, [7]) == [whole[7]]


def test_places_are_drawn_by_post_and_by_seed(toy) -> None:
    """Otherwise who knew one post's edits would know another's, and the same text twice would say the same thing twice."""
    text = toy.texts[0]

    def of(names, seed=1):
        return search([text] * len(names), names, toy.score, np.zeros(len(names), np.float32), 2, seed)

    many = of([f"post {number}" for number in range(12)])
    assert len({one.text for one in many}) > 3
    assert of(["post 3"]) == [many[3]]
    assert of(["post 3"], seed=2) != [many[3]]


def test_a_text_that_nobody_finds_stays_as_it_is(toy) -> None:
    texts = ["coffee in the garden and morning walking", toy.texts[0]]
    quiet, loud = search(texts, ["a", "b"], toy.score, np.full(2, 0.5, np.float32), BUDGET, 1)
    assert (quiet.text, quiet.edits) == (texts[0], 0)
    assert loud.edits > 0
    toy.calls.clear()
    search(texts[:1], ["a"], toy.score, np.full(1, 0.5, np.float32), BUDGET, 1)
    assert sum(toy.calls) == 1  # its words are not tried either


def test_words_are_taken_in_the_order_of_what_they_weigh(toy) -> None:
    text = "garden coffee window vermin market letter"
    found = search([text], ["a"], toy.score, np.zeros(1, np.float32), 2, 1)[0]
    changed = [before for before, after in zip(text.split(" "), found.text.split(" "), strict=False) if before != after]
    assert changed[0] == "vermin"


def test_a_round_asks_once_for_all_posts(toy) -> None:
    toy.calls.clear()
    run(toy, budget=100, threshold=0.0)
    assert len(toy.calls) <= 2 + max(len(text.split()) for text in toy.texts)


def test_no_posts_and_no_words_are_fine(toy) -> None:
    assert search([], [], toy.score, np.empty(0, np.float32), BUDGET, 1) == []
    assert search(["a b !"], ["a"], toy.score, np.zeros(1, np.float32), BUDGET, 1) == [("a b !", 0)]
