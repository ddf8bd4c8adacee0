"""What stands beside the figures: freezes until they are lifted, behaviour tests or that there are none, and the posts to look at."""

import json
import re
from pathlib import Path
from typing import Any

import logo_evaluated
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from score_worlds import PARAMS, attacks, settings, table, thresholds
from weeks import deliver, tables

from upheld.common.errors import BadUse
from upheld.evaluation import behaviour, evaluate
from upheld.evaluation.logos import stage as logo_evaluate
from upheld.evaluation.weekly import command as weekly
from upheld.feature_store.contracts.tables import ABLATIONS
from upheld.feature_store.contracts.workspace import Event
from upheld.feature_store.decisions import freezes

EVENT = Event(category="spam", event="freeze", who="Ana", at="2026-10-20T08:00:00Z", reason="news <b>quotes</b>")
SHOWN = ("Frozen:", "spam is not removed automatically since 2026-10-20 08:00 UTC, by", "&lt;b&gt;quotes&lt;/b&gt;")


def measured(model: str, suite: str = "cases.parquet", right: float = 0.5) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Results of a suite in which a share of the negated cases is decided as expected."""
    functionality = np.repeat(["negated", "direct"], 60)
    label = (functionality == "direct").astype(int)
    wrong = (np.arange(120) % 60 >= 60 * right) & (label == 0)
    nothing = dict.fromkeys(("identity", "pair_id", "ref_case_id"))
    cases = pd.DataFrame({"case_id": [str(k) for k in range(120)], "functionality": functionality, "label": label})
    cases = cases.assign(category="spam", language=np.tile(["en", "de"], 60), **nothing)
    cases = cases.assign(prob=np.where(wrong | (label == 1), 0.9, 0.1)).assign(flagged=lambda rows: rows.prob > 0.5)
    told = {"model_version": model, "thresholds_version": "t/1", "synthetic": False, "suite": suite, "cases": 120, "pairs": 0,
            "suite_digest": suite.ljust(64, "0")}  # fmt: skip
    return behaviour.measure(cases, settings().behave, 0.1), told


@pytest.fixture(scope="module")
def week(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return deliver(tmp_path_factory.mktemp("week") / "in", tables(models=("upheld-moderation/7",)))


def report(delivery: Path, folder: Path, *options: str) -> tuple[str, str, dict[str, Any]]:
    """Page, mail and content of a week's report."""
    arguments = ["--week", "2026-W43", "--delivery", str(delivery), "--out", str(folder / "out"), "--store", str(folder / "store")]
    assert weekly.main([*arguments, "--params", str(PARAMS), *options]) == 0
    (page,) = (folder / "out").glob("*/report.html")
    return page.read_text(), page.with_suffix(".md").read_text(), json.loads(page.with_suffix(".json").read_text())


def test_a_freeze_is_on_the_first_screen_of_both_reports_until_it_is_lifted(week: Path, tmp_path: Path) -> None:
    table(400).to_parquet(tmp_path / "scores.parquet")
    arguments = ["--scores", str(tmp_path / "scores.parquet"), "--out", str(tmp_path / "evaluated"), "--params", str(PARAMS)]
    freezes.append(tmp_path / "store", EVENT)
    assert evaluate.main([*arguments, "--store", str(tmp_path / "store")]) == 0
    page, mail = ((tmp_path / "evaluated" / name).read_text() for name in ("report.html", "report.md"))
    for frozen_page, frozen_mail in ((page, mail), report(week, tmp_path)[:2]):
        first_screen = frozen_page.partition("<main>")[0]
        assert all(part in first_screen for part in SHOWN)
        assert all(part in frozen_mail.partition("## What changed")[0].replace("**", "") for part in SHOWN)
    freezes.append(tmp_path / "store", EVENT.model_copy(update={"event": "unfreeze"}))
    assert evaluate.main([*arguments, "--store", str(tmp_path / "store")]) == 0
    lifted = ((tmp_path / "evaluated" / name).read_text() for name in ("report.html", "report.md"))
    assert not any("Frozen" in text for text in (*lifted, *report(week, tmp_path)[:2]))


def test_the_stage_shows_the_freezes_that_were_pinned_and_what_features_the_posts_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("data", "data/calibration"):
        Path(folder).mkdir()
    table(400).to_parquet("data/scores.parquet")
    table(1).head(0).to_parquet("data/champion_scores.parquet")
    attacks(table(400)).head(0).to_parquet("data/attacks.parquet")
    ablations(0).to_parquet("data/ablations.parquet")
    Path("data/calibration/thresholds.json").write_text(json.dumps(thresholds(spam=(0.4, 0.9, ()), hate_speech=(0.4, None, ()))))
    Path("data/calibration/calibration.json").write_text(json.dumps({"categories": {}}))
    tables = {"posts": 1, "decisions": 1, "review_outcomes": 1, "audit_draws": 1}
    pinned = {"tables": tables, "as_of": "2026-10-25T00:00:00Z", "ledger_digest": "d", "champion": None,
              "synthetic": False, "frozen": [EVENT.model_dump(mode="json")]}  # fmt: skip
    Path("data/inputs.json").write_text(json.dumps(pinned))
    counts = {"posts": 400, "present": 300, "quarantined": 100, "missing": 0, "share": 0.75, "reasons": {"no_sound": 100}}
    covered = {"coverage": [{"feature": "transcript", "language": "all", **counts}], "drift": []}
    Path("data/features.json").write_text(json.dumps(covered))
    Path("models/fusion").mkdir(parents=True)
    Path("models/fusion/metadata.json").write_text('{"incumbent": "old-1", "members": {}, "unheard": []}')
    lost = {"language": "<i>de", "category": "hate_speech", "labels": 412, "before": 0.861, "after": 0.843}
    Path("models/text").mkdir()
    Path("models/text/metadata.json").write_text(json.dumps({"since_start": [lost]}))
    logo_evaluated.empty_dataset(Path("data/logo"))
    pd.DataFrame(columns=logo_evaluated.DETECTIONS).to_parquet("data/logo_detections.parquet")
    logo_evaluated.scanned(Path("data"))
    assert logo_evaluate.main(["--params", str(PARAMS)]) == 0
    assert evaluate.main(["--params", str(PARAMS), "--store", str(tmp_path / "nothing here")]) == 0
    page, mail = (Path(f"data/evaluation/report.{kind}").read_text() for kind in ("html", "md"))
    assert all(part in page for part in SHOWN)
    assert "\n\n- transcript: 75.0 % of 400 posts, 100 refused\n\n" in mail.partition("## Features of the posts")[2]
    assert "no sound: 100" in page.partition('id="features"')[2]
    assert "This model needs the score of old-1" in page and "This model needs the score of old-1" in mail
    assert "ranks hate speech in &lt;i&gt;de worse than that: ROC-AUC 0.843, before 0.861" in page
    assert "worse than that: ROC-AUC 0.843, before 0.861" in mail and "<i>" not in mail
    assert "There is no logo detector: nothing to learn from" in page.partition('id="logos"')[2]
    assert "Nothing was attacked, although the test split has" in page.partition('id="attacks"')[2]
    attacks(table(400)).to_parquet("data/attacks.parquet")
    assert evaluate.main(["--params", str(PARAMS), "--store", str(tmp_path / "nothing here")]) == 0
    assert "The worst attack: " in Path("data/evaluation/report.html").read_text().partition('id="attacks"')[2]
    assert 'id="sources"' not in page
    ablations(400).to_parquet("data/ablations.parquet")
    assert evaluate.main(["--params", str(PARAMS), "--store", str(tmp_path / "nothing here")]) == 0
    page = Path("data/evaluation/report.html").read_text()
    sources = page.partition('id="sources"')[2].partition('id="data"')[0]
    heads = re.findall(r'<th scope="col">([^<]+)</th>', sources)
    figures = re.findall(r'<span class="num">([^<]+)</span>', sources)
    assert dict(zip(heads[2:], figures, strict=True)) == {"The board or thread": "+0.500", "Texts": "+0.000"}
    ablations(400).assign(prob=2.0).to_parquet("data/ablations.parquet")
    assert evaluate.main(["--params", str(PARAMS), "--store", str(tmp_path / "nothing here")]) == 2


def ablations(num: int) -> pd.DataFrame:
    """Of spam: without the board posts are ranked at random, texts bring nothing."""
    label = np.arange(num) % 2 == 1
    base = {"post_id": [f"p{n}" for n in range(num)], "policy": "spam", "label": label, "weight": 1.0, "prob": np.where(label, 0.8, 0.2)}
    parts = [
        pd.DataFrame(base | {"source": "context", "prob_without": 0.5}),
        pd.DataFrame(base | {"source": "text", "prob_without": base["prob"]}),
    ]
    return pa.Table.from_pandas(pd.concat(parts), schema=ABLATIONS, preserve_index=False).to_pandas()


def test_behaviour_that_nobody_tested_names_the_command(week: Path, tmp_path: Path) -> None:
    page, mail, story = report(week, tmp_path)
    assert story["behaviour"] == []
    for text in (page, mail):
        assert "Not run for this model" in text
        assert "upheld behave 7 --suite" in text


def test_behaviour_stands_beside_the_languages_of_the_model_it_was_run_on(week: Path, tmp_path: Path) -> None:
    for model, right in (("upheld-moderation/7", 0.5), ("upheld-moderation/8", 1.0)):
        behaviour.write(tmp_path / model, *measured(model, right=right))
        behaviour.keep(tmp_path / "store", tmp_path / model)
    page, mail, story = report(week, tmp_path)
    (suite,) = story["behaviour"]
    assert suite["model_version"] == "upheld-moderation/7"
    rates = {row["language"]: row["pass_rate"] for row in suite["languages"]}
    assert {name: rate["value"] for name, rate in rates.items()} == {"all": 0.75, "de": 0.75, "en": 0.75}
    assert [row["group_value"] for row in suite["failed"]] == ["negated"] * 3
    assert page.index('id="languages"') < page.index('id="behaviour"') < page.index('id="category-1"')
    assert any("Behaviour tests (cases.parquet): 3 of" in item["text"] for item in story["attention"])
    assert "75.0 % of 120 cases decided as expected" in mail


def test_a_second_run_of_a_suite_replaces_the_first_and_another_suite_joins_it(tmp_path: Path) -> None:
    for name, right in (("cases.parquet", 0.5), ("cases.parquet", 1.0), ("more.csv", 1.0)):
        behaviour.write(tmp_path / "out", *measured("m/1", name, right))
        behaviour.keep(tmp_path / "store", tmp_path / "out")
    found = behaviour.load(behaviour.folder_of(tmp_path / "store", "m/1"))
    assert [(suite["suite"], suite["num_failed"]) for suite in found] == [("cases.parquet", 0), ("more.csv", 0)]
    assert behaviour.load(behaviour.folder_of(tmp_path / "store", "m/2")) == []


def test_damaged_behaviour_results_are_named(tmp_path: Path) -> None:
    behaviour.write(tmp_path, *measured("m/1"))
    (tmp_path / "behaviour.json").write_text("{}")
    with pytest.raises(BadUse, match="expected what `upheld behave` writes"):
        behaviour.load(tmp_path)


def test_the_surest_mistakes_are_listed_by_id_and_their_texts_only_on_request(tmp_path: Path) -> None:
    rows = table(600).assign(text="secret <script>alert(1)</script>")
    rows.to_parquet(tmp_path / "scores.parquet")
    certified = tmp_path / "thresholds.json"
    certified.write_text(json.dumps(thresholds(spam=(0.4, 0.9, ()), hate_speech=(0.4, None, ()))))
    for show in (False, True):
        evaluate.run(settings(), evaluate.Inputs(tmp_path / "scores.parquet", certified, show_text=show), tmp_path / "out")
        page, content = ((tmp_path / "out" / name).read_text() for name in ("report.html", "report.json"))
        assert ("secret" in page) is show
        assert ("secret" in content) is show
        assert "<script>" not in page
    listed = json.loads(content)["examples"]["spam"]
    spam = rows[(rows.category == "spam") & rows.label.notna()].sort_values("score")
    wrong, missed = spam[(spam.label == 0) & (spam.score >= 0.4)], spam[(spam.label == 1) & (spam.score < 0.4)]
    assert [item["item_id"] for item in listed["flagged"]] == wrong.item_id.iloc[::-1].head(5).tolist()
    assert [item["item_id"] for item in listed["missed"]] == missed.item_id.head(5).tolist()


def test_texts_that_are_not_there_cannot_be_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table(50).to_parquet(tmp_path / "scores.parquet")
    arguments = ["--scores", str(tmp_path / "scores.parquet"), "--out", str(tmp_path / "out"), "--params", str(PARAMS), "--show-text"]
    assert evaluate.main(arguments) == 2
    assert "no column 'text'" in capsys.readouterr().err


def test_a_week_shows_texts_only_on_request(week: Path, tmp_path: Path) -> None:
    hidden, _, story = report(week, tmp_path)
    assert any(listed["flagged"] or listed["missed"] for listed in story["examples"].values())
    assert '<th scope="col">Text</th>' not in hidden
    shown, _, _ = report(week, tmp_path, "--show-text")
    assert '<th scope="col">Text</th>' in shown
    assert "<bdi>x</bdi>" in shown
