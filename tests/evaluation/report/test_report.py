"""The report in a browser, in mail, and against hostile text."""

import json
import re
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest
from score_worlds import settings, table, thresholds

from upheld.evaluation import evaluate
from upheld.evaluation.report import charts, render, words

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "a|b`c`[d](javascript:alert(3))",
    "# x\n- y",
    "{{ 7*7 }}",
    "x" * 300,
]


def made(folder: Path, rows: pd.DataFrame, certified: dict | None = None, groups=("region",)) -> Path:
    rows.to_parquet(folder / "scores.parquet")
    inputs = evaluate.Inputs(folder / "scores.parquet")
    if certified:
        (folder / "thresholds.json").write_text(json.dumps(certified))
        inputs = evaluate.Inputs(folder / "scores.parquet", folder / "thresholds.json", comparator_scores=folder / "scores.parquet")
    evaluate.run(settings(), inputs, folder / "out", groups=groups)
    return folder / "out"


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    certified = thresholds(spam=(0.4, 0.9, ("de",)), hate_speech=(0.4, None, ()))
    return made(tmp_path_factory.mktemp("plain"), table().assign(synthetic=True, period="2026-W43"), certified)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    rows = table(600)
    names = pd.Series(HOSTILE)
    rows["language"] = names.iloc[rows.index % len(names)].to_numpy()
    rows["region"] = names.iloc[(rows.index // 7) % len(names)].to_numpy()
    rows["category"] = rows.category.replace({"spam": HOSTILE[0]})
    return made(tmp_path_factory.mktemp("hostile"), rows)


def test_the_page_is_self_contained(plain) -> None:
    page = (plain / "report.html").read_text()
    assert not re.search(r"<(script|link|iframe|object|embed)\b", page)
    assert not re.search(r"""(src|href)=["'](?!#)""", page)
    assert "@import" not in page
    assert "url(" not in page


def test_what_the_first_screen_says(plain) -> None:
    story = json.loads((plain / "report.json").read_text())
    assert story["synthetic"] is True
    mail = (plain / "report.md").read_text()
    for text in (mail, (plain / "report.html").read_text()):
        assert "Synthetic data" in text
    assert mail.startswith("# Hold") is (story["decision"] == "hold")
    said = " ".join(item["text"] for item in story["attention"])
    assert "automatic removal is off in de" in said
    assert "Automatic removal stays off for these, because we cannot yet show that 90 % of removals would be right: hate speech" in said
    assert any("starts at 0.4" in line for line in story["changed"])


def test_the_first_screen_of_a_question_leaves_failed_checks_to_its_part_on_the_gate(plain) -> None:
    story = json.loads((plain / "report.json").read_text())
    assert (plain / "first_screen.md").read_text() == render.first_screen(story)
    story["attention"].insert(0, {"level": "stop", "text": "Spam: ranking: too low.", "where": "checks"})
    whole, screen = render.markdown(story), render.first_screen(story)
    assert "- **stops promotion:** Spam: ranking: too low." in whole
    assert "too low" not in screen
    assert "automatic removal is off in de" in screen
    shown = [f"##{line}" if line.startswith("#") else line for line in whole.partition("\n## Summary")[0].strip().splitlines()]
    assert screen.strip().splitlines() == [line for line in shown if "stops promotion" not in line]


def test_every_figure_of_the_page_is_in_report_json(plain) -> None:
    story = json.loads((plain / "report.json").read_text())
    metrics = pd.read_parquet(plain / "metrics.parquet")
    spam = next(category for category in story["categories"] if category["name"] == "spam")
    cell = metrics[(metrics.category == "spam") & (metrics.language == "en") & (metrics.metric == "fpr")].iloc[0]
    shown = next(item for item in spam["languages"] if item["name"] == "en")["metrics"]["fpr"]
    assert shown["value"] == cell.value
    assert shown["n"] == cell.n
    heat = {(row["language"], item["category"]): item["fpr"] for row in story["heat_map"] for item in row["cells"]}
    assert heat["en", "spam"] == cell.value
    assert f">{words.share(cell.value)}" in (plain / "report.html").read_text()


def test_hostile_text_stays_text(hostile) -> None:
    page, mail = (hostile / "report.html").read_text(), (hostile / "report.md").read_text()
    assert "<script>" not in page
    assert "<img" not in page
    assert "&lt;script&gt;" in page
    assert "{{ 7*7 }}" in page
    assert "<script>" not in mail
    assert not re.search(r"(?<!\\)\]\(", mail)
    assert not re.search(r"^# x", mail, re.MULTILINE)


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_keeps_one_line_without_markup(text) -> None:
    line = render.plain(text)
    assert "\n" not in line
    assert not re.search(r"(?<!\\)[`|\[\]<>]", line)


@pytest.mark.parametrize(
    ("value", "said"), [(0.0, "0.0 %"), (1.0, "100.0 %"), (0.00001, "<0.01 %"), (0.99999, ">99.99 %"), (0.034, "3.4 %"), (0.0034, "0.34 %")]
)
def test_shares_never_round_to_none_or_all(value, said) -> None:
    assert words.share(value) == said


def test_a_chart_without_a_point_says_so() -> None:
    drawn = charts.Plot("x", charts.unit_axis("a"), charts.unit_axis("b")).svg()
    assert 'data-points="0"' in drawn
    assert "too few labelled rows" in drawn


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("kind", ["plain", "hostile"])
def test_the_layout_holds(browser, request, tmp_path, width, kind) -> None:
    folder = request.getfixturevalue(kind)
    page = browser.new_page(viewport={"width": width, "height": 900})
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((folder / "report.html").as_uri())
    assert said == []
    assert len(asked) == 1  # the page itself: no network
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate("document.querySelectorAll('details').forEach(item => item.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    wide = page.evaluate(
        """[...document.querySelectorAll('main *')].filter(node => !node.closest('.scroll') && !node.closest('svg')
            && node.getBoundingClientRect().right > innerWidth + 1).map(node => node.outerHTML.slice(0, 80))"""
    )
    assert wide == []
    points = page.evaluate(
        "[...document.querySelectorAll('figure svg')].map(node => [node.dataset.points, node.clientWidth, node.clientHeight])"
    )
    assert points
    for number, across, down in points:
        assert across > 200
        assert down > 150
        assert kind == "hostile" or int(number) > 0
    page.screenshot(path=tmp_path / f"{kind}-{width}.png", full_page=True)
    assert (tmp_path / f"{kind}-{width}.png").stat().st_size > 20_000
    page.close()


def test_the_keyboard_reaches_everything(browser, plain) -> None:
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.goto((plain / "report.html").as_uri())
    wanted = page.evaluate("document.querySelectorAll('a, summary, [tabindex]').length")
    reached = set()
    for _ in range(wanted):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("[...document.querySelectorAll('*')].indexOf(document.activeElement)"))
    assert len(reached) == wanted
    headings = page.evaluate("[...document.querySelectorAll('h1, h2, h3')].map(node => Number(node.tagName[1]))")
    assert all(after <= before + 1 for before, after in pairwise(headings))
    page.close()
