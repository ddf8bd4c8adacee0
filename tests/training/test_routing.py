"""Every case of the routing rule, enumerated against a table written by hand."""

import itertools

import numpy as np
import pytest

from feature_store.errors import BadUse
from training.routing import Rule, read_rules, route, strongest

GRID = [None, 0.0, 0.3, 0.6, 1.0]
PROBS = [0.0, 0.29999, 0.3, 0.59999, 0.6, 0.99999, 1.0]


def expected(thr_auto, thr_review, prob: float, known_language: bool, frozen: bool) -> str:
    if thr_auto is not None and prob >= thr_auto:
        return "auto_remove" if known_language and not frozen else "review"
    if thr_review is not None and prob >= thr_review:
        return "review"
    return "none"


def test_every_combination() -> None:
    allowed = {False: {"en"}, True: {"en", "fa"}}  # by what happens in languages that nobody has spoken of, such as fa
    for thr_auto, thr_review, frozen, pooled in itertools.product(GRID, GRID, (False, True), (False, True)):
        rule = Rule(thr_auto, thr_review, {"en": True, "tr": False}, pooled)
        cases = list(itertools.product(PROBS, ("en", "tr", "fa")))
        actions = route(rule, np.array([prob for prob, _ in cases]), [language for _, language in cases], frozen)
        for (prob, language), action in zip(cases, actions, strict=True):
            assert action == expected(thr_auto, thr_review, prob, language in allowed[pooled], frozen), (rule, prob, language, frozen)


@pytest.mark.parametrize(
    ("actions", "one"),
    [(["none"], "none"), (["none", "review"], "review"), (["auto_remove", "none", "review"], "auto_remove")],
)
def test_the_strongest_action_counts(actions: list[str], one: str) -> None:
    assert strongest(actions) == one


def test_rules_come_from_thresholds_json() -> None:
    languages = {"en": {"action": "auto_remove", "n": 300}, "de": {"action": "review", "reason": "no evidence"}}
    content = {
        "categories": {
            "spam": {"auto_remove": {"threshold": 0.9, "outcome": "certified", "languages": languages}, "review": {"threshold": 0.4}},
            "hate_speech": {"auto_remove": {"threshold": None, "languages": {}}, "review": {"threshold": None, "outcome": "insufficient"}},
            "not_of_this_model": {},
        }
    }
    rules = read_rules(content, ["spam", "hate_speech"])
    assert rules == {"spam": Rule(0.9, 0.4, {"en": True, "de": False}, False), "hate_speech": Rule(None, None, {}, False)}
    assert all(rule.removes_elsewhere for rule in read_rules(content | {"unknown_language": "pool"}, ["spam", "hate_speech"]).values())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "mapping under the key `categories`"),
        ({"categories": []}, "mapping under the key `categories`"),
        ({"categories": {"hate_speech": {}}}, "no thresholds for spam"),
        ({"categories": {"spam": None}}, "no thresholds for spam"),
        (
            {"categories": {"spam": {"review": {"threshold": 1.5}}}},
            r"spam.review.threshold: expected null or a number in \[0, 1\]",
        ),
        ({"categories": {"spam": {"auto_remove": {"threshold": "high"}}}}, "categories.spam.auto_remove.threshold"),
        ({"categories": {"spam": {"auto_remove": {"threshold": True}}}}, "categories.spam.auto_remove.threshold"),
        ({"categories": {"spam": {"auto_remove": {"threshold": float("nan")}}}}, "categories.spam.auto_remove.threshold"),
    ],
)
def test_thresholds_that_cannot_be_meant_are_refused(content, message: str) -> None:
    with pytest.raises(BadUse, match=message):
        read_rules(content, ["spam"])
