"""The sentences that people read first: plain, true of the figures, and right for none, one and many."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from upheld.evaluation import gate
from upheld.evaluation.report import render, sentences, week_story

REPOSITORY = Path(__file__).resolve().parents[3]
RETIRED = (
    "lack the evidence to tell",
    "for want of proof",
    "cannot be told yet",
    "is wanted:",
    "labelled rows do not settle it",
    "any other one is listed and does not hold",
    "Each cell carries two statistics",
    "An alarm is raised",
    "deviate from co-reviewers",
    "No reviewer deviates",
    "leave open; the cheapest",
    "appeals enter no figure",
    "no number of labels would certify",
    "need_n is for",
    "were none seen",
    "confident nonsense",
    "fells its worker",
    "go by its thresholds again",
    "What every model that served did",
    "Rows of other splits were not read",
    "or the task `ask` fails",
    "tells a command's options",
    "The surest mistakes:",
    ">where</a>",
)


@pytest.mark.parametrize("phrase", RETIRED)
def test_sentences_that_nobody_understood_are_gone(phrase: str) -> None:
    files = [
        path
        for folder in ("evaluation", "registry", "docs")
        for path in (REPOSITORY / folder).rglob("*")
        if path.suffix in (".py", ".j2", ".md")
    ]
    assert len(files) > 100
    assert [path.name for path in [*files, REPOSITORY / "upheld" / "cli.py"] if phrase in path.read_text(encoding="utf-8")] == []


def checks(**counts: int) -> dict[str, Any]:
    of = [{"name": "roc_auc", "scope": "spam/all", "status": status} for status, num in counts.items() for _ in range(num)]
    return {"decision": "hold" if counts.get("fail") else "promote", "checks": of}


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({"pass": 17, "insufficient": 223}, "Ready for approval: 17 checks passed, none failed; 223 could not be made for lack of labels."),
        ({"pass": 1}, "Ready for approval: 1 check passed, none failed."),
        ({"insufficient": 1}, "Ready for approval: 0 checks passed, none failed; 1 could not be made for lack of labels."),
        ({"fail": 1, "pass": 3, "warn": 1}, "Hold: 1 check failed, 4 passed."),
        ({"fail": 2}, "Hold: 2 checks failed, 0 passed."),
    ],
)
def test_the_headline(counts: dict[str, int], said: str) -> None:
    assert sentences.headline(checks(**counts)) == said


@pytest.mark.parametrize(
    ("value", "low", "high", "num", "said"),
    [
        (0.64, 0.36, 0.76, 62, "not shown: between 0.36 and 0.76; the minimum is 0.6; 62 labels are too few; about 2,976 more are needed"),
        (0.55, 0.3576, 0.76, 62, "not shown: between 0.358 and 0.76; the minimum is 0.6; 62 labels are too few"),
        (0.7, 0.1, 0.9, 1, "not shown: between 0.1 and 0.9; the minimum is 0.6; 1 label is too few; about 35 more are needed"),
        (0.9, 0.7, 0.95, 62, "between 0.7 and 0.95; the minimum is 0.6"),
    ],
)
def test_a_check_says_what_is_missing(value: float, low: float, high: float, num: int, said: str) -> None:
    row = SimpleNamespace(value=value, ci_low=low, ci_high=high, n=num, reason=None)
    assert gate.bounded("roc_auc", ("spam", "all"), row, 0.6, at_least=True, must_show=True)["reason"] == said


def recall(**changes: Any) -> str:
    row = {"category": "dangerous_content", "weeks": ["w"] * 3, "window_reason": "the model has not served longer", "threshold": 0.5,
           "bound": 0.83, "outcome": "kept", "target": 0.8, "n": 155, "need_n": 123, "need_threshold": 0.03}  # fmt: skip
    (item,) = week_story._recall({"recall": [row | changes]})
    return item["text"]


def test_what_review_misses() -> None:
    start, weeks = "Dangerous content: we cannot yet say how much review misses. ", " Counted: 3 weeks; the model has not served longer."
    assert recall() == f"{start}The 155 labels so far contain too many misses for the 80 % target.{weeks}"
    assert recall(n=1) == f"{start}The 1 label so far contains too many misses for the 80 % target.{weeks}"
    assert recall(n=9, need_n=8580, need_threshold=0.5) == f"{start}So far there are 9 labels; the 80 % target needs about 8,580.{weeks}"
    assert recall(n=1, need_threshold=0.5, weeks=["w"], window_reason=None) == (
        f"{start}So far there is 1 label; the 80 % target needs about 123. Counted: 1 week."
    )
    assert recall(outcome="certified", need_n=None, need_threshold=None) == (
        f"Dangerous content: from 0.500 on, review and removal find at least 83.0 % of violations; that is certified.{weeks}"
    )


@pytest.mark.parametrize(
    ("costs", "said"),
    [
        ([3, 9, None], "3 questions are still open. The quickest to settle needs 3 more labels: spam, de, to certify."),
        ([1], "1 question is still open. It needs 1 more label: spam, de, to certify."),
    ],
)
def test_open_questions(costs: list[int | None], said: str) -> None:
    rows = [{"category": "spam", "language": "de", "purpose": "to certify", "cost": cost} for cost in costs]
    assert [item["text"] for item in week_story._remarks({"otherwise_decided": 0, "missing": rows})] == [said]
    assert list(week_story._remarks({"otherwise_decided": 0, "missing": []})) == []


@pytest.mark.parametrize(("num", "said"), [(1, "1 decision differs from"), (1200, "1,200 decisions differ from")])
def test_decisions_by_another_rule(num: int, said: str) -> None:
    (item,) = week_story._remarks({"otherwise_decided": num, "missing": []})
    assert item["text"].startswith(said)


@pytest.mark.parametrize(
    ("value", "low", "high", "said"),
    [
        (0.2, 0.1, 0.3, "by the audit, 20.0 % of all removals were wrong (10.0 % to 30.0 %; that is 1 to 3 of 10)"),
        (0.0, 0.0, 0.3, "by the audit, at most 30.0 % of all removals were wrong (0 of 8; that is 0 to 3 of 10)"),
        (0.0, 0.0, 0.9, "the audit has too few labels to say how many removals were wrong (0 of 8 was)"),
    ],
)
def test_appeals_beside_the_audit(value: float, low: float, high: float, said: str) -> None:
    audit = {"value": value, "ci_low": low, "ci_high": high, "n": 8}
    row = {"category": "spam", "overturned": 1, "decided": 1, "removals": 10, "appealed": 10, "audit": audit, "wrong_low": 10 * low,
           "wrong_high": 10 * high}  # fmt: skip
    told = week_story.appeal_gap(row)
    assert told.startswith(f"1 of 1 decided appeal overturned the removal; {said}.")
    assert told.endswith("and all of 10 removals were appealed.")


def test_every_place_of_attention_has_a_name() -> None:
    story = {"categories": [{"name": "hate_speech"}]}
    assert sentences.place(story, "category-1") == "Hate speech"
    page = "".join(path.read_text() for path in render.FOLDER.glob("*.j2"))
    assert all(f'id="{name}"' in page for name in sentences.PLACES)


@pytest.mark.parametrize(
    ("certificate", "said"),
    [
        ({"need_n": None, "n": 84}, "Hate speech"),
        ({"need_n": 524, "n": 0, "weeks": ["2026-W40"]}, "Hate speech (takes about 524 labels)"),
        ({"need_n": 524, "n": 84}, "Hate speech (takes about 524 labels)"),  # of no weekly report
        (
            {"need_n": 524, "n": 84, "weeks": ["2026-W40", "2026-W41", "2026-W42"]},  # 440 more at 28 a week
            "Hate speech (takes about 524 labels; 84 labels of 3 weeks so far, so 16 more weeks at this pace)",
        ),
        (
            {"need_n": 30, "n": 29, "weeks": ["2026-W40"]},
            "Hate speech (takes about 30 labels; 29 labels of 1 week so far, so 1 more week at this pace)",
        ),
        (
            {"need_n": 204342, "n": 3, "weeks": ["2026-W40"]},
            "Hate speech (takes about 204,342 labels; 3 labels of 1 week so far, so more than a year at this pace)",
        ),
        ({"need_n": 40, "n": 84, "weeks": ["2026-W40"]}, "Hate speech (takes about 40 labels)"),  # needed for another threshold
    ],
)
def test_what_is_missing_is_said_in_weeks_where_labels_come_weekly(certificate: dict[str, Any], said: str) -> None:
    told = sentences._need({"name": "hate_speech"}, certificate)
    assert told.lower() == said.lower()
