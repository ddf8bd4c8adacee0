"""What the report's page must have: every chart with its bands, meaning that survives without colour, paper, and the keyboard."""

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from score_worlds import PARAMS, settings, table, thresholds
from weeks import MONDAY, deliver, tables

from upheld.evaluation import evaluate
from upheld.evaluation.weekly import command as weekly

A4_HEIGHT_PX = 1123  # at 96 dots an inch
OVERLAPPING = """[...document.querySelectorAll('figure svg')].flatMap(svg => {
    const boxes = [...svg.querySelectorAll('text')].map(node => [node.textContent, node.getBoundingClientRect()]);
    const apart = (p, q) => p.left > q.right - 1 || q.left > p.right - 1 || p.top > q.bottom - 3 || q.top > p.bottom - 3;
    return boxes.flatMap(([a, p], i) => boxes.slice(i + 1).filter(([_, q]) => !apart(p, q)).map(([b]) => `${a} / ${b}`));
})"""
SHAPES_OF_KEYS = """[...document.querySelectorAll('figure svg')].map(svg => [...svg.children]
    .filter(node => ['rect', 'circle'].includes(node.tagName) && node.nextElementSibling?.classList.contains('key'))
    .map(node => node.tagName)).filter(keys => keys.length > 1)"""


@pytest.fixture(scope="module")
def page_of(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluation in which German stands out: its harmless spam posts score high."""
    folder = tmp_path_factory.mktemp("page")
    rows = table(4000)
    odd = (rows.language == "de") & (rows.category == "spam") & (rows.label == 0)
    rows.loc[odd, "score"] = rows.score[odd].clip(lower=0.6)
    rows.to_parquet(folder / "scores.parquet")
    (folder / "thresholds.json").write_text(json.dumps(thresholds(spam=(0.4, 0.9, ()), hate_speech=(0.4, 0.9, ()))))
    evaluate.run(settings(), evaluate.Inputs(folder / "scores.parquet", folder / "thresholds.json"), folder / "out")
    return folder / "out" / "report.html"


@pytest.fixture(scope="module")
def week_of(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the second of two weeks, whose model is new."""
    folder = tmp_path_factory.mktemp("weeks")
    second = tables(seed=1, models=("m-2",), start=MONDAY + pd.Timedelta(weeks=1))
    delivery, state = deliver(folder / "in", tables(), second), list[str]()
    for week in ("2026-W43", "2026-W44"):
        arguments = ["--week", week, "--delivery", str(delivery), "--out", str(folder / week), "--params", str(PARAMS), *state]
        assert weekly.main([*arguments, "--store", str(folder / "store")]) == 0
        state = ["--state", str(folder / week / "state.json")]
    return folder / "2026-W44" / "m-2" / "report.html"


@pytest.fixture
def page(browser: Any, page_of: Path) -> Any:
    opened = browser.new_page(viewport={"width": 1440, "height": 900})
    opened.goto(page_of.as_uri())
    yield opened
    opened.close()


def charts(path: Path, title: str) -> list[str]:
    """The SVG elements whose title starts so."""
    return re.findall(rf'<svg [^>]*aria-label="{title}[^"]*".*?</svg>', path.read_text(), re.DOTALL)


def test_every_category_has_its_three_charts_with_their_bands(page_of: Path) -> None:
    reliability, curves, histograms = (charts(page_of, title) for title in ("Reliability of", "Precision and recall of", "Scores of"))
    assert len(reliability) == len(curves) == len(histograms) == 2
    for chart in reliability:
        (band,) = re.findall(r'<polygon points="([^"]+)"', chart)
        dots = re.findall(r"<(?:circle|path) [^>]*><title>given ([\d.]+), found ([\d.]+) \(([\d.]+) to ([\d.]+)\)", chart)
        assert len(band.split()) == 2 * len(dots) > 8
        assert all(float(low) <= float(rate) <= float(high) for _, rate, low, high in dots)
    for chart in curves:
        assert len(re.findall(r'<path d="M[^"]+H[^"]+M[^"]+V', chart)) == 2  # both thresholds, with intervals both ways
        assert "review threshold" in chart
        assert "automatic removal" in chart
    for chart in histograms:
        assert len(re.findall("<polygon", chart)) == 2
        assert {"harmless", "violation", "review", "removal"} <= set(re.findall(r'class="key">([^<]+)<', chart))


def test_reliability_bands_are_those_of_report_json(page_of: Path) -> None:
    story = json.loads((page_of.parent / "report.json").read_text())
    for category in story["categories"]:
        curve = category["charts"]["reliability"]
        assert len(curve["prob"]) > 4
        assert all(low < high for low, high in zip(curve["ci_low"], curve["ci_high"], strict=True))
        (chart,) = charts(page_of, f"Reliability of {category['name']}")
        assert all(f"({low:.3f} to {high:.3f})" in chart for low, high in zip(curve["ci_low"], curve["ci_high"], strict=True))


def test_weeks_have_a_chart_and_no_name_lies_on_another(browser: Any, week_of: Path) -> None:
    (chart,) = charts(week_of, "Weeks of spam")
    assert "new model" in chart
    assert len(re.findall(r'<path d="M[^"]+V', chart)) == 4  # two figures of two weeks, with intervals
    opened = browser.new_page(viewport={"width": 1440, "height": 900})
    opened.goto(week_of.as_uri())
    overlapping = opened.evaluate(OVERLAPPING)
    opened.close()
    assert overlapping == []


def test_the_heat_map_has_every_language_and_category_and_signs_beside_its_colours(page: Any, page_of: Path) -> None:
    story = json.loads((page_of.parent / "report.json").read_text())
    cells = page.evaluate("[...document.querySelectorAll('.heat tbody tr')].map(row => [...row.children].map(cell => cell.textContent))")
    assert [row[0] for row in cells] == story["languages"]
    assert all(len(row) == 1 + len(story["categories"]) for row in cells)
    verdicts = [cell["verdict"] for row in story["heat_map"] for cell in row["cells"]]
    assert "FAIL" in verdicts
    signs = [text.strip()[0] for row in cells for text in row[1:]]
    assert signs == [{"FAIL": "✕", "WARN": "!", "PASS": "✓", "INSUFFICIENT": "?"}[verdict] for verdict in verdicts]


def test_nothing_is_said_by_colour_alone(page: Any) -> None:
    assert page.evaluate("[...document.querySelectorAll('.badge, .sign')].filter(node => !node.textContent.trim()).length") == 0
    shapes = page.evaluate(SHAPES_OF_KEYS)
    dashed = page.locator("figure svg polygon[stroke-dasharray]").count()
    assert sorted(map(tuple, shapes)) == [("circle", "rect")] * 2 + [("rect", "rect")] * 2  # areas are told apart by dashes
    assert dashed == 2


def test_it_prints_with_every_table_open_and_no_chart_cut(page: Any) -> None:
    page.emulate_media(media="print")
    hidden = page.evaluate("[...document.querySelectorAll('details')].filter(node => node.querySelector('table').offsetHeight < 20).length")
    assert page.evaluate("document.querySelectorAll('details:not([open])').length") > 0
    assert hidden == 0
    assert page.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    figures = page.evaluate(
        "[...document.querySelectorAll('figure')].map(node => [getComputedStyle(node).breakInside, node.getBoundingClientRect().height])"
    )
    assert figures
    assert all(rule == "avoid" and height < A4_HEIGHT_PX / 2 for rule, height in figures)
    printed = page.pdf(format="A4", print_background=True)
    assert printed.startswith(b"%PDF-")
    assert printed.count(b"/Type /Page\n") > 2


def test_the_keyboard_finds_its_way(page: Any) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#attention"
    order = []
    for _ in range(12):
        page.keyboard.press("Tab")
        order.append(page.evaluate("document.activeElement.getBoundingClientRect().top + scrollY"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert order == sorted(order)
    page.locator("summary").first.focus()
    before = page.evaluate("document.querySelector('details').open")
    page.keyboard.press("Enter")
    assert page.evaluate("document.querySelector('details').open") is not before
