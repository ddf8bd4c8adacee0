"""No report shows a measured rate as a bare 0 % or 100 %, whatever the number of labels; and what it shows instead."""

import json
from pathlib import Path
from typing import Any

import bare_rates
import numpy as np
import pandas as pd
import pytest
from score_worlds import PARAMS, settings, table, thresholds
from weeks import MONDAY, appeals, deliver, tables

from upheld.evaluation import behaviour, evaluate
from upheld.evaluation.report import render, words
from upheld.evaluation.weekly import command as weekly


def of_week(seed: int, num: int, share: float, **changes: Any) -> dict[str, pd.DataFrame]:
    """A small week with one appeal that is overturned."""
    made = tables(num, seed=seed, share=share, **changes)
    made["review_outcomes"] = pd.concat([made["review_outcomes"], appeals(made, 1, "restore")], ignore_index=True)
    return made


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Folders of reports on worlds from a handful of labels to many: all harmless, all violations, and between."""
    folder = tmp_path_factory.mktemp("worlds")
    made = []
    for number, (num, share) in enumerate([(10, 0.5), (25, 0.0), (25, 1.0), (60, 0.3), (1500, 0.25)]):
        weeks = [of_week(number, num, share), of_week(number + 9, num, share, start=MONDAY + pd.Timedelta(weeks=1))]
        delivery, state = deliver(folder / f"in-{number}", *weeks), list[str]()
        for week in ("2026-W43", "2026-W44"):
            out = folder / f"{number}-{week}"
            given = ["--week", week, "--delivery", str(delivery), "--out", str(out), "--params", str(PARAMS), *state]
            assert weekly.main([*given, "--store", str(folder / "store")]) == 0
            state = ["--state", str(out / "state.json")]
            made.append(out / "m-1")
    for number, num in enumerate([8, 40, 400]):
        table(num, seed=number).to_parquet(folder / f"{number}.parquet")
        given = folder / f"{number}.json"
        given.write_text(json.dumps(thresholds(spam=(0.4, 0.9, ()), hate_speech=(0.4, None, ()))))
        suite = folder / f"suite-{number}"
        behaviour.write(suite, *all_right(2 + 30 * number))
        inputs = evaluate.Inputs(folder / f"{number}.parquet", given, behaviour=suite, features=covered(folder))
        evaluate.run(settings(), inputs, folder / f"evaluated-{number}", groups=["region"])
        made.append(folder / f"evaluated-{number}")
    return made


def all_right(num: int) -> tuple[pd.DataFrame, dict[str, Any]]:
    """A suite whose cases are all decided as expected, and one functionality of which none is."""
    functionality = np.repeat(["direct", "negated"], num)
    cases = pd.DataFrame({"case_id": [str(k) for k in range(2 * num)], "functionality": functionality, "label": 1})
    cases = cases.assign(category="spam", language="en", **dict.fromkeys(("identity", "pair_id", "ref_case_id")))
    cases = cases.assign(prob=np.where(functionality == "direct", 0.9, 0.1)).assign(flagged=lambda rows: rows.prob > 0.5)
    told = {"model_version": "m/1", "thresholds_version": "t/1", "synthetic": False, "suite": "cases", "cases": 2 * num, "pairs": 0,
            "suite_digest": "0" * 64}  # fmt: skip
    return behaviour.measure(cases, settings().behave, 0.1), told


def covered(folder: Path) -> Path:
    """Features that all posts have, or none."""
    counts = {"posts": 40, "quarantined": 0, "missing": 0, "reasons": {}}
    rows = [
        {"feature": name, "language": "all", "share": share, "present": 40 * share, **counts} for name, share in (("x", 1.0), ("y", 0.0))
    ]
    (folder / "features.json").write_text(json.dumps({"coverage": rows, "drift": []}))
    return folder / "features.json"


def test_no_report_shows_a_bare_none_or_all(reports: list[Path]) -> None:
    for folder in reports:
        assert bare_rates.in_page((folder / "report.html").read_text()) == [], folder
        assert bare_rates.in_lines((folder / "report.md").read_text().splitlines()) == [], folder


def test_the_worlds_have_rates_of_none_and_all(reports: list[Path]) -> None:
    """Otherwise the test above would say nothing."""
    seen = pd.concat([pd.read_parquet(folder / "metrics.parquet") for folder in reports])
    rates = seen[seen.metric.isin(["precision", "recall", "fpr", "precision_auto_remove", "base_rate"]) & seen.value.isin([0, 1])]
    assert set(rates.metric) == {"precision", "recall", "fpr", "precision_auto_remove", "base_rate"}
    assert rates.n.min() == 1
    assert rates.n.max() > 20
    pages = [(folder / "report.html").read_text() for folder in reports]
    assert any("too few to say" in page for page in pages)
    assert any("1 of 1 decided" in page for page in pages)
    assert any("at least " in page and "at most " in page for page in pages)


@pytest.mark.parametrize(
    ("value", "low", "high", "num", "said", "beside"),
    [
        (1.0, 0.05, 1.0, 1, "too few to say", "1 of 1"),
        (0.0, 0.0, 0.95, 1, "too few to say", "0 of 1"),
        (0.0, 0.0, 0.036, 82, "at most 3.6 %", "0 of 82"),
        (1.0, 0.964, 1.0, 1082, "at least 96.4 %", "1,082 of 1,082"),
        (1.0 - 1e-12, 0.964, 1.0, 82, "at least 96.4 %", "82 of 82"),
        (0.0, None, None, 1234, "0 of 1,234", ""),
        (1.0, None, None, 5, "5 of 5", ""),
        (1.0, 1.0, 1.0, 5, "5 of 5", ""),
        (0.5, 0.2, 0.8, 6, "50.0 %", "20.0 % to 80.0 %"),
        (0.0004, 0.0, 0.02, 5000, "0.04 %", "0.0 % to 2.0 %"),
    ],
)
def test_what_stands_there_instead(value: float, low: float | None, high: float | None, num: int, said: str, beside: str) -> None:
    row = {"value": value, "ci_low": low, "ci_high": high, "n": num}
    assert (render.estimate("recall", row), render.span("recall", row)) == (said, beside)


@pytest.mark.parametrize(("number", "said"), [(0, "0 reviewers"), (1, "1 reviewer"), (2, "2 reviewers"), (1234, "1,234 reviewers")])
def test_a_number_agrees_with_its_noun(number: int, said: str) -> None:
    assert words.count(number, "reviewer") == said


def test_a_link_says_where_it_leads(reports: list[Path]) -> None:
    for folder in reports:
        story = json.loads((folder / "report.json").read_text())
        page = (folder / "report.html").read_text()
        assert ">where</a>" not in page
        names = [category["name"].replace("_", " ").capitalize() for category in story["categories"]]
        for item in story["attention"]:
            assert f'id="{item["where"]}"' in page
            place = render.sentences.place(story, item["where"])
            assert f'href="#{item["where"]}">see {place}</a>' in page
            assert place in names or place in page.replace("Languages and categories", "Languages")
