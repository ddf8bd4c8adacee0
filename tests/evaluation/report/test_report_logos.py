"""The report's section on logos: its figures, its pictures, hostile names, both widths, and worlds without a detector."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import bare_rates
import logo_evaluated as world
import pandas as pd
import pytest
from score_worlds import PARAMS, settings, table

from upheld.common.errors import BadUse
from upheld.evaluation import evaluate
from upheld.evaluation.logos import stage as logo_evaluate
from upheld.evaluation.logos.stage import Inputs
from upheld.evaluation.report import logos, render
from upheld.evaluation.report.headlines import headlines

HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "a|b`c`[d](javascript:alert(3))", "{{ 7*7 }}", "y" * 300)
PICTURE = re.compile(r'<img src="data:image/jpeg;base64,([A-Za-z0-9+/=]+)" alt="([^"]+)">')


def reported(folder: Path, judged: Path) -> Path:
    """The report of scores beside logos, as a caller outside a workspace makes it."""
    table(400).to_parquet(folder / "scores.parquet")
    options = {"--scores": folder / "scores.parquet", "--logos": judged, "--out": folder / "out", "--store": folder / "store"}
    assert evaluate.main(["--params", str(PARAMS), *(str(part) for option in options.items() for part in option)]) == 0
    return folder / "out"


def made(folder: Path, **of_world: Any) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        world.few_resamples(patch)
        return reported(folder, world.evaluated(folder, **of_world))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("plain"), synthetic=True)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("hostile"), brands=HOSTILE, context=HOSTILE[1])


def section(folder: Path) -> str:
    """The part of the page on logos."""
    return (folder / "report.html").read_text().partition('<h2 id="logos">')[2].partition('<h2 id="thresholds">')[0]


def test_its_figures_are_those_of_the_metrics(plain: Path) -> None:
    metrics = pd.read_parquet(plain.parent / "judged" / "metrics.parquet").set_index(["group_column", "group_value", "metric"])
    told = json.loads((plain / "report.json").read_text())["logos"]
    row, page = metrics.loc[("all", "all", "map_50")], section(plain)
    assert told["figures"]["map_50"]["value"] == row["value"]
    assert f"<b>{row['value']:.3f}</b><span>{row['ci_low']:.3f} to {row['ci_high']:.3f}</span>" in page
    alarms = metrics.loc[("all", "all", "false_alarms_per_1000")]
    assert f"On 1,000 photos without a logo it reports {alarms['value']:,.0f}" in page
    values = [brand["metrics"]["ap_50"]["value"] for brand in told["brands"]]
    assert values == sorted(values)
    assert {brand["name"]: brand["marks"] for brand in told["brands"]} == {
        brand: metrics.loc[("brand", brand, "ap_50"), "n"] for brand in ("acorn", "birch", "cedar")
    }


def test_headlines_are_the_pooled_figures_of_scores_and_logos(plain: Path) -> None:
    tables = pd.concat([pd.read_parquet(folder / "metrics.parquet") for folder in (plain, plain.parent / "judged")])
    cells = tables.set_index(["metric", "category", "language", "group_column"]).value
    told = json.loads((plain / "metrics.json").read_text())
    assert {"roc_auc/spam/all", "pr_auc/hate_speech/all", "map_50/logo/all", "recall/logo/all"} <= told.keys()
    assert not any(name.split("/")[0] in ("fpr", "rows", "map_50_95", "precision") for name in told)
    assert told == {name: cells[*name.split("/"), "all"] for name in told}


def test_an_undefined_headline_stays_out() -> None:
    rows = [("roc_auc", "spam", "all", "all", 0.9), ("roc_auc", "hate_speech", "all", "all", None), ("pr_auc", "spam", "en", "all", 0.8)]
    metrics = pd.DataFrame(
        [*rows, ("recall", "spam", "all", "region", 0.5)], columns=["metric", "category", "language", "group_column", "value"]
    )
    for none in (None, {"value": None}):
        assert headlines(metrics, {"map_50": none}) == {"roc_auc/spam/all": 0.9}
    assert headlines(metrics.iloc[:0], {}) == {}


def test_no_rate_of_the_section_is_a_bare_none_or_all(plain: Path) -> None:
    story = json.loads((plain / "report.json").read_text())
    every, none = (
        {"value": value, "ci_low": low, "ci_high": high, "n": 3, "reason": None} for value, low, high in ((1, 0.4, 1), (0, 0, 0.2))
    )
    story["logos"]["brands"][0]["metrics"] |= {"precision": every, "recall": none}
    story["logos"]["figures"] |= {"precision": none, "recall": every}
    story["logos"]["exposure"]["places"][0] |= {"post_share": 1.0, "area_share_shown": 0.0}
    page, mail = render.html(story), render.markdown(story)
    assert bare_rates.in_page(page) == []
    assert bare_rates.in_lines(mail.splitlines()) == []
    assert "The detector finds all of the 3 marks on photos held out" in page
    assert "at most 20.0 % (0 of 3)" in mail


def test_composites_only_stands_beside_luck(plain: Path) -> None:
    page = section(plain)
    (once,) = [brand for brand in json.loads((plain / "report.json").read_text())["logos"]["brands"] if brand["one_shot"]]
    assert once["name"] == "cedar"
    assert page.count("✓ better than luck") == 1
    assert f"by luck {once['metrics']['one_shot_chance']['value']:.3f}" in page
    rows = (plain / "report.md").read_text().partition("## Logos")[2].partition("|---")[2].splitlines()[1:4]
    assert rows[0].startswith("| cedar (composites only) | 12 | 0.6")
    assert all(row.startswith("| ") and row.endswith(" |") for row in rows)  # one table, without a gap


def test_what_is_missing_is_said_on_the_first_screen_and_in_the_checks(plain: Path) -> None:
    story = json.loads((plain / "report.json").read_text())
    assert any("Logos: At no confidence is it certified yet" in item["text"] for item in story["attention"])
    assert any("some of the photos are generated" in item["text"] for item in story["attention"])
    assert {check["name"]: check["status"] for check in story["gate"]["checks"] if check["name"].startswith("logo")} == {
        "logo_map_50": "pass",
        "logo_certificate": "insufficient",
    }
    assert "Synthetic photos" in section(plain)
    assert "Synthetic photos" in (plain / "report.md").read_text()


def test_pairs_are_counted_in_the_confusion(plain: Path) -> None:
    confusion = pd.read_parquet(plain.parent / "judged" / "confusion.parquet")
    wrong = confusion[confusion["said"].notna() & (confusion["mark"].fillna("") != confusion["said"])]
    pairs = json.loads((plain / "report.json").read_text())["logos"]["pairs"]
    assert sum(pair["count"] for pair in pairs) == wrong["count"].sum() > 0
    assert [pair["count"] for pair in pairs] == sorted((pair["count"] for pair in pairs), reverse=True)


def test_the_sheet_is_in_the_page_and_in_words(plain: Path) -> None:
    ((_, alt),) = PICTURE.findall(section(plain))
    assert alt.startswith("15 photos with a frame each. 5 marks found: ")
    assert "5 marks missed: " in alt
    assert "5 false alarms: " in alt
    assert not re.search(r"""(src|href)=["'](?!#|data:image/jpeg;base64,)""", (plain / "report.html").read_text())


def test_hostile_names_stay_text(hostile: Path) -> None:
    page, mail = (hostile / "report.html").read_text(), (hostile / "report.md").read_text()
    assert "<script" not in page
    assert "<img src=x" not in page
    assert page.count("<img") == len(PICTURE.findall(page)) == 1
    assert "&lt;script&gt;" in section(hostile)
    assert "{{ 7*7 }}" in section(hostile)
    assert "<script>" not in mail
    assert not re.search(r"(?<!\\)\]\(", mail)


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("kind", ["plain", "hostile"])
def test_the_layout_holds(browser: Any, request: pytest.FixtureRequest, tmp_path: Path, width: int, kind: str) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900})
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    page.goto((request.getfixturevalue(kind) / "report.html").as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(item => item.open = true)")
    assert said == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    wide = page.evaluate(
        """[...document.querySelectorAll('main *')].filter(node => !node.closest('.scroll') && !node.closest('svg')
            && node.getBoundingClientRect().right > innerWidth + 1).map(node => node.outerHTML.slice(0, 80))"""
    )
    assert wide == []
    picture = page.locator("figure.sheet img")
    assert picture.evaluate("node => [node.complete, node.naturalWidth, node.naturalHeight]") == [True, 1000, 654]
    assert picture.evaluate("node => node.offsetWidth") >= 720  # on a telephone it scrolls inside its frame: tiles stay readable
    page.locator("h2#logos").scroll_into_view_if_needed()
    page.screenshot(path=tmp_path / f"{kind}-{width}.png", full_page=True)
    page.close()


def test_a_brand_that_luck_explains_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world.few_resamples(monkeypatch)
    data = world.dataset(tmp_path / "logo", num_photos=60)
    found = world.detections(data)
    found.assign(brand=["acorn"] * len(found)).to_parquet(tmp_path / "found.parquet")
    logo_evaluate.run(settings(), Inputs(tmp_path / "logo", tmp_path / "found.parquet"), tmp_path / "judged", tmp_path / "store")
    out = reported(tmp_path, tmp_path / "judged")
    told = json.loads((out / "report.json").read_text())
    assert any("cedar, learned from composites alone, is not shown" in item["text"] for item in told["attention"])
    assert "? not shown" in section(out)
    assert told["logos"]["exposure"] is None
    assert "Where brands were seen" not in section(out)


def test_without_a_detector_the_section_says_why_and_the_gate_does_not_apply(tmp_path: Path) -> None:
    world.empty_dataset(tmp_path / "logo")
    pd.DataFrame(columns=world.DETECTIONS).to_parquet(tmp_path / "found.parquet")
    logo_evaluate.run(settings(), Inputs(tmp_path / "logo", tmp_path / "found.parquet"), tmp_path / "judged", tmp_path)
    out = reported(tmp_path, tmp_path / "judged")
    for text in (section(out), (out / "report.md").read_text()):
        assert "There is no logo detector: nothing to learn from" in text
    checks = json.loads((out / "gate.json").read_text())["checks"]
    assert [check["status"] for check in checks if check["name"].startswith("logo")] == ["not_applicable"] * 2


def test_without_logos_the_report_is_as_before(tmp_path: Path) -> None:
    table(400).to_parquet(tmp_path / "scores.parquet")
    result = evaluate.run(settings(), evaluate.Inputs(tmp_path / "scores.parquet"), tmp_path / "out")
    assert "logos" not in result.report
    assert not any(check["name"].startswith("logo") for check in result.gate["checks"])
    assert "Logos" not in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize("damage", ["logo.json", "metrics.parquet", "confusion.parquet", "sheet.jpg", "one shot"])
def test_a_folder_that_holds_something_else_is_bad_use(plain: Path, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "judged"
    shutil.copytree(plain.parent / "judged", folder)
    if damage == "one shot":
        told = json.loads((folder / "logo.json").read_text())
        (folder / "logo.json").write_text(json.dumps(told | {"one_shot": ["acorn"]}))
    else:
        (folder / damage).write_text("<svg onload=alert(1)>")
    with pytest.raises(BadUse, match="expected what `upheld logo evaluate` writes"):
        logos.read(folder)


def test_one_of_a_kind_is_said_in_the_singular() -> None:
    tiles = [{"kind": "missed", "caption": "acorn"}]
    assert logos.picture({"tiles": tiles}) == "1 photo with a frame each. 1 mark missed: acorn."
