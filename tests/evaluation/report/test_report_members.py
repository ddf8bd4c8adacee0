"""What the report says of members that fusion leaves out, and of a model that needs another's score: on every page, escaped."""

import json
from pathlib import Path
from typing import Any

import pytest
from score_worlds import settings

from upheld.common.errors import BadUse
from upheld.evaluation import evaluate
from upheld.evaluation.report import members

HOSTILE = "old<b>_1_"  # whoever delivers decisions names their model


def verdict(left_out: bool = False, gain: float | None = -0.0012) -> dict[str, Any]:
    known = gain is not None
    areas = {"roc_auc": 0.911 if known else None, "roc_auc_without": 0.912 if known else None}
    return {"left_out": left_out, "num": 120, "gain": gain, "standard_error": 0.0034 if known else None, **areas}


def account(folder: Path, incumbent: str | None = None, unheard: tuple[str, ...] = ()) -> Path:
    spam = {"text": verdict(gain=0.1), "ngrams": verdict(left_out=True), "image": verdict(left_out=True)}
    hate = {"text": verdict(gain=0.1), "ngrams": verdict(gain=0.05)}
    few = {"text": verdict(gain=None)}
    content = {
        "incumbent": incumbent,
        "members": {"spam": spam, "hate_speech": hate, "misinformation": few, "graphic_violence": few},
        "unheard": list(unheard),
    }
    (folder / "metadata.json").write_text(json.dumps(content))
    return folder / "metadata.json"


def test_categories_are_told_of_in_plain_sentences(tmp_path: Path) -> None:
    figures = "cross-entropy 0.0012 lower (standard error 0.0034), ROC-AUC 0.912 against 0.911, 120 posts judged"
    assert members.read(account(tmp_path, unheard=("image",)))["sentences"] == [
        "N-grams and pictures were left out for spam: without them posts that the fit did not see are judged as well "
        f"({figures}; {figures}).",
        "No member was left out for hate speech: none was shown to bring nothing.",
        "No member was left out for graphic violence and misinformation: too few labels to tell what each brings.",
        "Pictures: left out in every category, so not run when posts are scored.",
    ]


@pytest.mark.parametrize("content", [None, "{", "{}", '{"incumbent": null, "members": {"spam": {"x": 1}}, "unheard": []}', "[]"])
def test_a_file_that_says_something_else_is_bad_use(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "metadata.json").write_text(content)
    with pytest.raises(BadUse, match=r"metadata\.json: not readable as what fusion made of its members"):
        members.read(tmp_path / "metadata.json")


def test_what_a_classifier_forgot_is_named_by_language_the_largest_loss_first(tmp_path: Path) -> None:
    cell = {"language": "de", "category": "hate_speech", "labels": 412, "before": 0.861, "after": 0.843}
    cells = [cell | {"after": 0.86}, cell | {"language": HOSTILE}, cell | {"after": 0.87}]
    (tmp_path / "metadata.json").write_text(json.dumps({"since_start": cells}))
    told = "worse than that: ROC-AUC {}, before 0.861, 412 labels of the posts that training sees."
    assert members.forgotten(tmp_path / "metadata.json") == [
        f"The text classifier started from the champion's and ranks hate speech in {HOSTILE} " + told.format("0.843"),
        "The text classifier started from the champion's and ranks hate speech in de " + told.format("0.860"),
        "Ranked as well as before, or better: 1 of 3 cells by language.",
    ]
    (tmp_path / "metadata.json").write_text("{}")
    assert members.forgotten(tmp_path / "metadata.json") == []
    (tmp_path / "metadata.json").write_text('{"since_start": 1}')
    with pytest.raises(BadUse, match="record of a text classifier"):
        members.forgotten(tmp_path / "metadata.json")


@pytest.fixture
def pages(tmp_path: Path, score_table):
    def made(incumbent: str | None, compared: str) -> tuple[dict[str, Any], list[str]]:
        table = score_table(2000, 4).assign(split="test")
        table.to_parquet(tmp_path / "scores.parquet")
        table.assign(model_version=compared).to_parquet(tmp_path / "other.parquet")
        inputs = evaluate.Inputs(
            tmp_path / "scores.parquet", comparator_scores=tmp_path / "other.parquet", served=True, fusion=account(tmp_path, incumbent)
        )
        story = evaluate.run(settings(), inputs, tmp_path / "out").report
        return story, [(tmp_path / "out" / name).read_text() for name in ("report.html", "report.md", "first_screen.md")]

    return made


def test_every_page_says_that_the_model_needs_the_incumbent_and_contains_what_it_is_compared_with(pages) -> None:
    story, texts = pages(HOSTILE, HOSTILE)
    assert members.needs(HOSTILE) in [item["text"] for item in story["attention"] if item["level"] == "look"]
    assert [line for line in story["changed"] if line.startswith("This model contains what it is compared with: the score of old<b>_1_")]
    escaped = ["old&lt;b&gt;_1_", *[r"old&lt;b&gt;\_1\_"] * 2]
    for text, name in zip(texts, escaped, strict=True):
        assert f"This model needs the score of {name}: who scores posts with it" in text
        assert f"contains what it is compared with: the score of {name} is an input of it" in text
        assert "old<b>" not in text
    section = texts[0].partition('id="comparison"')[2].partition("<h2")[0]
    assert "contains what it is compared with" in section
    assert "contains what it is compared with" in texts[1].partition("on the same posts")[2].partition("\n## ")[0]


def test_a_comparison_with_another_model_is_no_comparison_with_itself(pages) -> None:
    story, texts = pages("old-1", "old-2")
    assert all("This model needs the score of old-1" in text for text in texts)
    assert not any("contains what it is compared with" in text for text in texts)
    assert story["fusion"]["incumbent"] == "old-1"


def test_without_an_incumbent_nothing_is_said_of_one_and_members_have_their_place(pages) -> None:
    _, texts = pages(None, "old-1")
    assert not any("needs the score" in text or "contains what" in text for text in texts)
    said = "were left out for spam"
    assert said in texts[0].partition('id="data"')[2] and said in texts[1].partition("## Members of the model")[2]
