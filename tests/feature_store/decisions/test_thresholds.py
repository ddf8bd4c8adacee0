"""thresholds.json: every case of its routing rule, enumerated against a table written by hand, and what is refused."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from upheld.common.errors import BadUse
from upheld.feature_store.decisions.thresholds import Thresholds, strongest

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
        languages = {"en": {"action": "auto_remove"}, "tr": {"action": "review"}}
        spam = {"auto_remove": {"threshold": thr_auto, "languages": languages}, "review": {"threshold": thr_review}}
        rule = Thresholds.parse({"categories": {"spam": spam}, "unknown_language": "pool" if pooled else "review"})
        cases = list(itertools.product(PROBS, ("en", "tr", "fa")))
        actions = rule.route("spam", np.array([prob for prob, _ in cases]), [language for _, language in cases], frozen)
        for (prob, language), action in zip(cases, actions, strict=True):
            assert action == expected(thr_auto, thr_review, prob, language in allowed[pooled], frozen), (rule, prob, language, frozen)


@pytest.mark.parametrize(
    ("actions", "one"),
    [(["none"], "none"), (["none", "review"], "review"), (["auto_remove", "none", "review"], "auto_remove")],
)
def test_the_strongest_action_counts(actions: list[str], one: str) -> None:
    assert strongest(actions) == one


def _content(**changed: Any) -> dict[str, Any]:
    languages = {"en": {"action": "auto_remove", "n": 300}, "de": {"action": "review", "reason": "no evidence"}}
    removal = {"threshold": 0.9, "outcome": "certified", "languages": languages, "n_eff": 12.0, "path": [{"n": 1, "passed": True}]}
    return {"format": 1, "categories": {"spam": {"auto_remove": removal, "review": {"threshold": None, "need_n": 12}}}, **changed}


def test_a_file_is_passed_on_as_it_was_read(tmp_path: Path) -> None:
    content = _content(of_a_later_version={"a": [1, 2.0, None]}, unknown_language="pool")
    (tmp_path / "given.json").write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
    Thresholds.read(tmp_path / "given.json").write(tmp_path / "passed_on.json")
    assert (tmp_path / "passed_on.json").read_bytes() == (tmp_path / "given.json").read_bytes()


def test_a_language_without_a_rule_goes_by_unknown_language_and_to_a_person_where_that_is_absent() -> None:
    for changed, removes in (({}, False), ({"unknown_language": "review"}, False), ({"unknown_language": "pool"}, True)):
        found = Thresholds.parse(_content(**changed))
        assert [found.removes("spam", language) for language in ("en", "de", "fa")] == [True, False, removes]


@pytest.mark.parametrize(
    ("outcome", "proven"), [("certified", True), ("kept", True), ("abstained", False), ("in force", False), (None, False)]
)
def test_a_removal_without_proof_is_named(outcome: str | None, proven: bool) -> None:
    content = _content()
    content["categories"]["spam"]["auto_remove"]["outcome"] = outcome
    assert Thresholds.parse(content).unproven() == ([] if proven else ["spam"])
    content["categories"]["spam"]["auto_remove"]["threshold"] = None
    assert Thresholds.parse(content).unproven() == []


def test_a_policy_without_thresholds_is_refused() -> None:
    with pytest.raises(BadUse, match="t/1: no thresholds for scam"):
        Thresholds.parse(_content()).require(["spam", "scam"], "t/1")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "key categories: expected the thresholds of each category"),
        ({}, "key categories: expected the thresholds of each category.* found nothing"),
        ({"categories": []}, "key categories: expected the thresholds of each category"),
        ({"categories": {"spam": None}}, "key categories.spam: "),
        ({"categories": {"spam": {"review": {"threshold": 0.5}}}}, "key categories.spam.auto_remove: .*found nothing"),
        (
            {"categories": {"spam": {"review": {"threshold": 1.5}}}},
            r"spam.review.threshold: expected null or a number in \[0, 1\], found 1.5",
        ),
        ({"categories": {"spam": {"review": {"threshold": None}, "auto_remove": {}}}}, "auto_remove.threshold: expected .* found nothing"),
        *(
            (
                {"categories": {"spam": {"review": {"threshold": value}, "auto_remove": {"threshold": None}}}},
                "categories.spam.review.threshold",
            )
            for value in ("high", True, float("nan"))
        ),
        (_content(unknown_language="ask"), "key unknown_language: expected review or pool, found 'ask'"),
    ],
)
def test_thresholds_that_cannot_be_meant_are_refused(content: Any, message: str) -> None:
    with pytest.raises(BadUse, match=message):
        Thresholds.parse(content, "t.json")
