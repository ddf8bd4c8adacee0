"""The search of an attacker who sees scores: which few characters of a text bring its score below a threshold.

Words are taken in the order in which the score falls when one is left out; of all ways to edit a word, that with the lowest score is kept.
Source: Gao, Lanchantin, Soffa & Qi (2018), Black-box Generation of Adversarial Text Sequences to Evade Deep Learning Classifiers; the order
by leaving words out: Jin, Jin, Zhou & Szolovits (2020), Is BERT Really Robust? (TextFooler).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from upheld.common.arrays import Floats32
from upheld.training.robustness.words import EVERY_EDIT, Attacked, chance, letters_of, pieces

# Row of the post that each of N texts stands for, and the texts -> the probability of a violation of each, float32 (N,); N may be 0.
Score = Callable[[Sequence[int], Sequence[str]], Floats32]


@dataclass
class _Attempt:
    """How far the search on one text has come. `order`: the places of `parts` that are still to be tried, the next one last."""

    row: int
    parts: list[str]
    order: list[int]
    score: float
    draw: np.random.Generator
    edits: int = 0


def search(texts: Sequence[str], names: Sequence[str], score: Score, thresholds: Floats32, budget: int, seed: int) -> list[Attacked]:
    """Attack texts until each scores below its threshold, its budget is spent or its words have all been tried.

    Args:
        texts: N texts.
        names: of the posts that they are of; the result for one depends on no other.
        score: called once for all that a round asks.
        thresholds: float32 (N,); a text that is below from the start stays as it is: nobody finds it, so nobody need hide it.
        budget: edits of one text, at most, as `Attacked` counts them.
        seed: of the places within words, which are drawn.

    Returns:
        of each text the best one found, or the text itself with 0 edits.
    """
    attempts = []
    for row, (text, prob) in enumerate(zip(texts, score(range(len(texts)), texts).tolist(), strict=True)):
        attempts.append(_Attempt(row, *pieces(text), prob, chance(seed, "search", names[row])))
    found = [attempt for attempt in attempts if attempt.score >= thresholds[attempt.row]]
    _put_in_order(found, score)
    while found := [one for one in found if one.score >= thresholds[one.row] and one.order and one.edits < budget]:
        tries = [_candidates(attempt, budget) for attempt in found]
        asked = [(attempt.row, "".join(parts)) for attempt, own in zip(found, tries, strict=True) for parts, _ in own]
        probs = iter(score([row for row, _ in asked], [text for _, text in asked]).tolist())
        for attempt, own in zip(found, tries, strict=True):
            for parts, edits in own:
                if (prob := next(probs)) < attempt.score:
                    attempt.score, attempt.parts, attempt.edits = prob, parts, edits
            attempt.order.pop()
    return [Attacked("".join(attempt.parts), attempt.edits) for attempt in attempts]


def _put_in_order(attempts: Sequence[_Attempt], score: Score) -> None:
    """Sort the words of each text by its score without them, the lowest last; of equal ones the earlier in the text comes later."""
    asked = [
        (attempt.row, "".join([*attempt.parts[:place], *attempt.parts[place + 1 :]])) for attempt in attempts for place in attempt.order
    ]
    probs = iter(score([row for row, _ in asked], [text for _, text in asked]).tolist())
    for attempt in attempts:
        without = [(next(probs), place) for place in attempt.order]
        attempt.order = [place for _, place in sorted(without, reverse=True)]


def _candidates(attempt: _Attempt, budget: int) -> list[tuple[list[str], int]]:
    """The text's parts with its next word edited in each way that the budget allows, and the edits in all."""
    place, tries = attempt.order[-1], []
    letters = letters_of(attempt.parts[place])
    for edit in EVERY_EDIT.values():
        word, edits = edit(letters, attempt.draw)
        if 0 < edits <= budget - attempt.edits:
            tries.append(([*attempt.parts[:place], word, *attempt.parts[place + 1 :]], attempt.edits + edits))
    return tries
