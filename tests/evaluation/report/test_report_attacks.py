"""The report's section on attacks: its figures, the first screen, hostile names, both widths, and a table without a row."""

import json
import re
from pathlib import Path
from typing import Any

import bare_rates
import pandas as pd
import pytest
from score_worlds import PARAMS, attacks, settings, table, thresholds

from upheld.evaluation import evaluate
from upheld.evaluation.report import attacks as attack_report
from upheld.evaluation.report import render
from upheld.evaluation.report.attacks import ATTACKS
from upheld.evaluation.report.headlines import LOST_TO_SEARCH, headlines
from upheld.evaluation.robustness.table import MODALITIES

HOSTILE = "<img src=x onerror=alert(1)>|`b`[c](javascript:alert(2))@all"


def reported(folder: Path, rows: pd.DataFrame, attacked: pd.DataFrame, *more: str) -> Path:
    """The report of scores beside attacks, as a caller outside a workspace makes it."""
    rows.to_parquet(folder / "scores.parquet")
    attacked.to_parquet(folder / "attacks.parquet")
    (folder / "thresholds.json").write_text(json.dumps(thresholds(**dict.fromkeys(rows.category.unique(), (0.4, None, ())))))
    options = {
        "--scores": "scores.parquet",
        "--attacks": "attacks.parquet",
        "--thresholds": "thresholds.json",
        "--out": "out",
        "--store": "store",
    }
    given = [part for name, file in options.items() for part in (name, str(folder / file))]
    assert evaluate.main(["--params", str(PARAMS), *given, *more]) == 0
    return folder / "out"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = table(900)
    return reported(tmp_path_factory.mktemp("plain"), rows, attacks(rows))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = table(900)
    rows = rows.assign(category=rows.category + HOSTILE, language=rows.language + HOSTILE)
    return reported(tmp_path_factory.mktemp("hostile"), rows, attacks(rows))


def section(folder: Path) -> str:
    """The part of the page on attacks."""
    return (folder / "report.html").read_text().partition('<h2 id="attacks">')[2].partition('id="category-1"')[0]


def story(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return content


def test_its_figures_are_those_of_the_table_and_the_worst_attack_is_shown(plain: Path) -> None:
    of_recall = pd.read_parquet(plain / "robustness.parquet").query("metric == 'recall'")
    ensemble = of_recall[of_recall.member == "ensemble"].set_index(["policy", "language", "modality", "attack"])
    told = story(plain)["attacks"]
    shown = {(cell["policy"], cell["language"], cell["modality"]): cell for cell in told["worst"]}
    for place, own in ensemble[ensemble.lost.notna()].groupby(["policy", "language", "modality"]):
        row = own.loc[(*place, shown.pop(place)["attack"])]
        assert row.lost == own.lost.max()
    assert shown == {}
    thin = ensemble.groupby(["policy", "language", "modality"]).filter(lambda own: own.lost.isna().all())
    named = {(part["policy"], one["language"], part["modality"]) for part in told["thin"] for one in part["languages"]}
    in_all = {(policy, modality) for policy, language, modality in named if language == "all"}
    assert named == {place[:3] for place in thin.index if place[1] == "all" or (place[0], place[2]) not in in_all} != set()
    first = told["worst"][0]["members"]
    page = section(plain)
    for name, row in first.items():
        listed = of_recall[(of_recall.policy == "hate_speech") & (of_recall.language == "all") & (of_recall.member == name)]
        listed = listed[listed.attack == told["worst"][0]["attack"]].iloc[0]
        assert (row["clean"]["value"], row["lost"]["ci_low"], row["n"]) == (listed.clean, listed.ci_low, listed.n)
    lost = first["ensemble"]["lost"]
    assert f"{100 * lost['value']:.1f} points" in page
    assert f"{100 * lost['ci_low']:.1f} to {100 * lost['ci_high']:.1f}" in page
    assert f"encoded texts: {100 * first['text']['clean']['value']:.1f} % → {100 * first['text']['attacked']['value']:.1f} %" in page


def test_rates_before_any_attack_are_those_of_the_report(plain: Path) -> None:
    """All labelled violations are attacked here, at the threshold and with the weights of all other figures."""
    recall = pd.read_parquet(plain / "metrics.parquet").query("metric == 'recall'").set_index(["category", "language"])
    clean = pd.read_parquet(plain / "robustness.parquet").query("metric == 'recall' and member == 'ensemble' and attack == 'swap'")
    clean = clean[clean.clean.notna()].set_index(["policy", "language"])
    assert len(clean) >= 6
    assert clean.clean.to_dict() == pytest.approx(recall.value[clean.index].to_dict())
    assert clean.n.to_dict() == recall.n[clean.index].to_dict()


def test_the_ensembles_scores_are_calibrated_and_no_others(tmp_path: Path, plain: Path) -> None:
    isotonic = {"isotonic": {"x": [0.0, 1.0], "y": [0.0, 0.5]}, "mean": [0.0, 1.0], "languages": {}, "n": 100}
    (tmp_path / "calibration.json").write_text(json.dumps({"categories": {"spam": isotonic, "hate_speech": None}}))
    rows = table(900)
    out = reported(tmp_path, rows, attacks(rows), "--calibration", str(tmp_path / "calibration.json"))
    halved, as_is = (
        pd.read_parquet(folder / "robustness.parquet").set_index(["policy", "member", "attack", "language"]) for folder in (out, plain)
    )
    swap = ("ensemble", "swap", "all")
    violations = rows[(rows.category == "spam") & (rows.label == 1)]
    expected = (1 / violations.inclusion_prob)[violations.score >= 0.8].sum() / (1 / violations.inclusion_prob).sum()
    assert halved.clean["spam", *swap] == pytest.approx(expected) != as_is.clean["spam", *swap]
    assert halved.threshold["spam", "text", "swap", "all"] > 0.5  # on its own scale, which reaches beyond .5
    assert halved.clean["hate_speech", *swap] == as_is.clean["hate_speech", *swap]


def test_headlines_hold_the_worst_loss_to_a_search(plain: Path) -> None:
    costs = pd.read_parquet(plain / "robustness.parquet")
    of_all = costs[(costs.language == "all") & (costs.member == "ensemble") & (costs.attack == "search")]
    assert len(of_all) == 2
    assert json.loads((plain / "metrics.json").read_text())[LOST_TO_SEARCH] == of_all.lost.max()
    metrics = pd.read_parquet(plain / "metrics.parquet")
    for without in (None, costs.iloc[:0], costs.assign(lost=float("nan")), costs[costs.attack != "search"]):
        assert LOST_TO_SEARCH not in headlines(metrics, {}, without)


def test_the_first_screen_speaks_of_attacks_only_where_the_gate_fails_for_them(plain: Path, tmp_path: Path) -> None:
    assert not any(item["where"] == "attacks" for item in story(plain)["attention"])
    rows = table(900)
    held = reported(tmp_path, rows, attacks(rows), "--set", "gate.max_recall_lost={swap: 0.001, search: 0.1, drop: 0.9}")
    (item,) = [item for item in story(held)["attention"] if item["where"] == "attacks" and item["text"].startswith("Spam")]
    assert item["level"] == "stop"
    costs = pd.read_parquet(held / "robustness.parquet").query("policy == 'spam' and language == 'all' and member == 'ensemble'")
    swap, search = (costs[costs.attack == name].lost.item() for name in ("swap", "search"))
    assert item["text"] == (
        f"Spam is easily hidden: swapped letters hide {100 * swap:.1f} points of recall where 0.1 are tolerated and "
        f"searched changes hide {100 * search:.1f} points of recall where 10.0 are tolerated."
    )
    assert story(held)["decision"] == "hold"
    texts = [(held / name).read_text() for name in ("report.html", "report.md")]
    assert all(item["text"] in text for text in texts)
    assert 'href="#attacks">see How easily it is fooled' in texts[0]
    assert not any("share of violations that an attack hides" in item["text"] for item in story(held)["attention"])
    checks = texts[0].partition('id="checks"')[2].partition('<h2 id="data"')[0]
    assert "spam, attack search" in checks and f"{100 * search:.1f} points" in checks


def test_every_attack_of_the_contract_is_explained_and_its_example_is_one(plain: Path) -> None:
    assert ATTACKS.keys() == MODALITIES.keys()
    page = section(plain).partition("What each attack does")[2]
    for attack in ATTACKS.values():
        assert all(text in page for text in (attack.does, attack.example, attack.needs))
    after = {name: attack.example.partition("→ ")[2] for name, attack in ATTACKS.items()}
    assert sorted(after["swap"]) == sorted("picnic") and after["swap"] != "picnic"
    assert after["homoglyphs"].startswith("\u0440icnic") and after["spacing"] == " ".join("picnic")
    assert after["drop"] in {"picnic"[:place] + "picnic"[place + 1 :] for place in range(6)}
    assert re.sub(r"(.)\1+", r"\1", after["repeat"]) == "picnic"


def test_no_text_or_id_of_a_post_is_shown(plain: Path) -> None:
    texts = [section(plain), json.dumps(story(plain)["attacks"]), (plain / "report.md").read_text().partition("## How easily")[2]]
    assert not any(re.search(r"\bi\d+\b", text) for text in texts)
    assert "post_id" not in pd.read_parquet(plain / "robustness.parquet")


def test_mail_has_one_table_without_a_gap(plain: Path) -> None:
    part = (plain / "report.md").read_text().partition("## How easily it is fooled")[2].partition("\n\ns")[0]
    lines = part.partition("|---")[2].strip().splitlines()[1:]
    assert len(lines) == len(story(plain)["attacks"]["worst"])
    assert all(line.startswith("| ") and line.endswith(" |") and line.count(" | ") == 6 for line in lines)


def test_no_rate_of_the_section_is_a_bare_none_or_all(tmp_path: Path, plain: Path) -> None:
    rows = table(300)
    extreme = attacks(rows).assign(attacked_prob=lambda found: (found.attack != "swap").astype("float32"))
    for folder in (plain, reported(tmp_path, rows, extreme)):
        assert bare_rates.in_page((folder / "report.html").read_text()) == []
        assert bare_rates.in_lines((folder / "report.md").read_text().splitlines()) == []
    for bound in ("at most", "at least"):
        assert f'<span class="num">{bound} ' in section(tmp_path / "out")


def test_hostile_names_stay_text(hostile: Path) -> None:
    page, mail = (hostile / "report.html").read_text(), (hostile / "report.md").read_text()
    assert "&lt;img src=x onerror=alert(1)&gt;" in section(hostile)
    assert "<img" not in page and "<img" not in mail
    part = mail.partition("## How easily")[2]
    assert "javascript" in part
    assert not re.search(r"(?<!\\)\]\(", part) and not re.search(r"(?<!\\)[`@]", part)


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("kind", ["plain", "hostile"])
def test_the_layout_holds(browser: Any, request: pytest.FixtureRequest, width: int, kind: str) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900})
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    page.goto((request.getfixturevalue(kind) / "report.html").as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(item => item.open = true)")
    assert said == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()


def test_a_table_without_a_row_says_why(tmp_path: Path) -> None:
    rows = table(300)
    for part, why in (
        (rows, r"Nothing was attacked, although the test split has \d+ labelled violations: no trained classifier reads"),
        (rows.assign(label=rows.label.where(rows.label != 1)), "Nothing could be attacked: no post of the test split has a label"),
    ):
        out = reported(tmp_path, part, attacks(rows).iloc[:0])
        for text in (section(out), (out / "report.md").read_text()):
            assert re.search(why, text)
        checks = [check for check in json.loads((out / "gate.json").read_text())["checks"] if check["name"] == "recall_lost"]
        assert {check["status"] for check in checks} == {"insufficient"} and len(checks) == 6
        assert len(pd.read_parquet(out / "robustness.parquet")) == 0


def test_a_handful_of_violations_is_too_little_to_say(tmp_path: Path) -> None:
    rows = table(300)
    some = attacks(rows)
    some = some[some.post_id.isin(rows[rows.label == 1].item_id.head(4))]
    out = reported(tmp_path, rows, some)
    assert "Too little to say: in no category were 10 violations attacked." in section(out)
    told = story(out)["attacks"]["thin"]
    assert [(part["modality"], [one["language"] for one in part["languages"]]) for part in told] == [("text", ["all"])] * len(told)
    assert "Where too few violations were attacked to say anything: fewer than 10" in section(out)
    assert story(out)["attacks"]["worst"] == []


def test_without_attacks_the_report_is_as_before_and_an_old_table_goes(tmp_path: Path, plain: Path) -> None:
    table(400).to_parquet(tmp_path / "scores.parquet")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "robustness.parquet").write_bytes((plain / "robustness.parquet").read_bytes())
    result = evaluate.run(settings(), evaluate.Inputs(tmp_path / "scores.parquet"), tmp_path / "out")
    assert "attacks" not in result.report and result.attacks is None
    assert not any(check["name"] == "recall_lost" for check in result.gate["checks"])
    assert "fooled" not in (tmp_path / "out" / "report.html").read_text() + (tmp_path / "out" / "report.md").read_text()
    assert not (tmp_path / "out" / "robustness.parquet").exists()


def test_a_damaged_table_is_bad_use_and_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table(50).to_parquet(tmp_path / "scores.parquet")
    (tmp_path / "attacks.parquet").write_text("<svg onload=alert(1)>")
    given = ["--scores", str(tmp_path / "scores.parquet"), "--attacks", str(tmp_path / "attacks.parquet"), "--out", str(tmp_path / "out")]
    assert evaluate.main(["--params", str(PARAMS), *given, "--store", str(tmp_path / "store")]) == 2
    assert "attacks.parquet: not a readable table" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_is_said_of_the_ensemble_counts_cases_with_a_single_classifier() -> None:
    def cell(attack: str, **lost: float) -> dict[str, Any]:
        rate = {"value": 0.5, "ci_low": 0.4, "ci_high": 0.6, "n": 50}
        members = {name: {"n": 50, "clean": rate, "attacked": rate, "lost": rate | {"value": value}} for name, value in lost.items()}
        return {"policy": "spam", "attack": attack, "members": members}

    pooled = [cell("search", text=0.5, ensemble=0.4), cell("swap", text=0.1, ngrams=0.3, ensemble=0.2), cell("drop", ensemble=0.0)]
    pooled.append(cell("repeat", text=0.3, ensemble=0.1))
    lines = attack_report.summary({"nothing": None, "pooled": pooled})
    assert lines[0].startswith(
        "The worst attack: searched changes, spam. Of 50 violations found before: 50.0 %, after: 50.0 %; lost: 40.0 points"
    )
    assert lines[1].startswith("The worst that anybody can do by hand: swapped letters, spam.")
    assert lines[2] == "In 2 of 3 cases (an attack on a category) the ensemble loses no more than each single classifier."
    assert len(attack_report.summary({"nothing": None, "pooled": pooled[1:]})) == 2  # the worst is one that anybody can do by hand
    assert render.number("recall_lost", -0.0001) == "0.0 points"
