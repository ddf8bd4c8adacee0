"""The report's section on features: what it shows of coverage and drift, escaped, and nothing where nothing was said."""

import json
from pathlib import Path
from typing import Any

import pytest

from upheld.common.errors import BadUse
from upheld.evaluation.report import render
from upheld.evaluation.report.content import read_features


def row(language: str, posts: int, present: int, **more: Any) -> dict[str, Any]:
    counts = {"posts": posts, "present": present, "quarantined": posts - present, "missing": 0, "share": present / posts}
    return {"feature": "transcript", "language": language, **counts, "reasons": {"no_<b>sound": posts - present}, **more}


def moved(language: str, period: str, verdict: str) -> dict[str, Any]:
    known = verdict != "insufficient"
    cell = {"feature": "text_embedding", "language": language, "period": period, "before": "2026-W42", "n": 9, "n_before": 8}
    return cell | {"mmd2": 0.0123 if known else None, "p": 0.001 if known else None, "verdict": verdict}


@pytest.fixture
def told(tmp_path: Path) -> dict[str, Any]:
    coverage = [row("all", 100, 90), row("de", 40, 30), row("en", 55, 55), row("cy", 5, 0)]
    drift = [moved("all", "2026-W42", "moved"), *(moved(*cell) for cell in (("en", "2026-W43", "steady"), ("all", "2026-W43", "moved")))]
    content = {"coverage": coverage, "drift": [*drift, moved("cy", "2026-W43", "insufficient")]}
    (tmp_path / "features.json").write_text(json.dumps(content))
    return read_features(tmp_path / "features.json")


def test_pooled_coverage_with_the_least_covered_language_that_is_large_enough(told: dict[str, Any]) -> None:
    (entry,) = told["coverage"]
    assert (entry["language"], entry["share"], entry["least"]["language"]) == ("all", 0.9, "de")
    assert [cell["language"] for cell in told["drift"]] == ["all", "cy", "en"]  # of the latest week
    assert told["moved"] == ["all"]


def test_both_pages_show_it_escaped(told: dict[str, Any]) -> None:
    template = render._environment().get_template("features.html.j2")
    page = template.render(story={"features": told})
    assert "90.0 %" in page or "90 %" in page
    assert "<b>sound" not in page and "&lt;b&gt;sound" in page
    assert "! has moved" in page and "? not enough posts" in page and "0.0123" in page


def test_nothing_extracted_is_said(tmp_path: Path) -> None:
    (tmp_path / "features.json").write_text('{"coverage": [], "drift": []}')
    template = render._environment().get_template("features.html.j2")
    page = template.render(story={"features": read_features(tmp_path / "features.json")})
    assert "Nothing was extracted" in page


@pytest.mark.parametrize("content", [None, "{", "{}", '{"coverage": [{}], "drift": []}'])
def test_a_file_that_says_something_else_is_bad_use(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "features.json").write_text(content)
    with pytest.raises(BadUse, match=r"features\.json: not readable"):
        read_features(tmp_path / "features.json")
