"""Weekly reports on eight weeks of real posts, and what they look like in a browser."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
from score_worlds import PARAMS
from weeks import appeals, deliver, tables

from upheld.evaluation.weekly import command as weekly
from upheld.feature_store.contracts.workspace import Event, Hold
from upheld.feature_store.decisions import freezes, holds

HOSTILE = '"><img src=x onerror=alert(2)>'


def report(delivery: Path, folder: Path, weeks: list[str]) -> Path:
    """Reports of the weeks in order, each carrying the state of the one before."""
    state: list[str] = []
    for week in weeks:
        arguments = ["--week", week, "--delivery", str(delivery), "--out", str(folder / week), "--params", str(PARAMS)]
        assert weekly.main([*arguments, "--store", str(folder / "store"), *state]) == 0
        state = ["--state", str(folder / week / "state.json")]
    return folder


@pytest.fixture(scope="module")
def two_weeks(shared_data, tmp_path_factory) -> Path:
    """The last week of one model and the first of the next."""
    return report(shared_data / "stream", tmp_path_factory.mktemp("stream"), ["2026-W39", "2026-W40"])


def check(folder: Path, week: str, model: str) -> None:
    """Every cell is there, and what cannot be told says how many labels it would take."""
    table = pd.read_parquet(folder / week / model / "metrics.parquet")
    told = json.loads((folder / week / model / "report.json").read_text())
    assert set(table.category) == {"hate_speech", "spam", "misinformation", "dangerous_content", "graphic_violence"}
    assert {"de", "en", "es", "fr", "hi", "pt", "th", "und", "zh"} <= set(table.language)
    small = table[(table.category == "hate_speech") & (table.language == "es") & table.metric.isin(["fpr_gap", "fnr_gap"])]
    # One or two labels settle nothing in either direction.
    assert not small[small.n <= 2].verdict.isin(["FAIL", "PASS"]).any()
    unsettled = small[small.verdict == "INSUFFICIENT"]
    assert len(unsettled) == 2
    assert (unsettled.need_n > unsettled.n).all()
    undefined = table[table.value.isna() & table.metric.isin(["precision", "recall", "fpr", "roc_auc"])]
    assert undefined.reason.notna().all()
    assert all(row["need"] is None or row["need"] > row["have"] for row in told["weekly"]["missing"])
    assert told["weekly"]["otherwise_decided"] == 0
    for change in told["weekly"]["changes"]:
        if change["category"] == "hate_speech":  # README: auto_remove at .95, review at .50
            assert change["now"]["auto_remove"] == pytest.approx(0.95, abs=0.002)
            assert change["now"]["review"] == pytest.approx(0.5, abs=0.006)


def test_a_new_model_starts_its_own_drift(two_weeks) -> None:
    check(two_weeks, "2026-W39", "baseline-ngram-1")
    check(two_weeks, "2026-W40", "baseline-ngram-2")
    told = json.loads((two_weeks / "2026-W40" / "baseline-ngram-2" / "report.json").read_text())
    assert [entry["model_version"] for entry in told["weekly"]["history"]] == ["baseline-ngram-1", "baseline-ngram-2"]
    assert told["weekly"]["drift"]["since"] == "2026-W40"
    assert any("serves for the first time" in line for line in told["changed"])


@pytest.mark.slow
def test_all_eight_weeks_in_order(shared_data, tmp_path) -> None:
    weeks = [f"2026-W{number}" for number in range(36, 44)]
    report(shared_data / "stream", tmp_path, weeks)
    for week in weeks:
        check(tmp_path, week, "baseline-ngram-1" if week < "2026-W40" else "baseline-ngram-2")
    assert len(json.loads((tmp_path / weeks[-1] / "state.json").read_text())["entries"]) == 8


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> Path:
    """Two models, one of them named to break a page, and a frozen category."""
    folder = tmp_path_factory.mktemp("hostile")
    of = tables(models=("m-1", HOSTILE))
    of["review_outcomes"] = pd.concat([of["review_outcomes"], appeals(of, 5, "restore")]).assign(reviewer_id=HOSTILE)
    event = Event(category="spam", event="freeze", who=HOSTILE, at="2026-10-20T08:00:00Z", reason="<script>alert(1)</script>")
    assert freezes.append(folder / "store", event)
    return report(deliver(folder / "in", of), folder, ["2026-W43"])


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("kind", ["two_weeks", "hostile"])
def test_the_layout_holds(browser, request, tmp_path, width, kind) -> None:
    folder = request.getfixturevalue(kind)
    page = browser.new_page(viewport={"width": width, "height": 900})
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    for path in sorted(folder.glob("2026-W4*/*/report.html")):
        page.goto(path.as_uri())
        page.evaluate("document.querySelectorAll('details').forEach(item => item.open = true)")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        wide = page.evaluate(
            """[...document.querySelectorAll('main *')].filter(node => !node.closest('.scroll') && !node.closest('svg')
                && node.getBoundingClientRect().right > innerWidth + 1).map(node => node.outerHTML.slice(0, 80))"""
        )
        assert wide == []
        assert all(
            int(number) > 0 for number in page.evaluate("[...document.querySelectorAll('#drift ~ .charts svg')].map(n => n.dataset.points)")
        )
        page.screenshot(path=tmp_path / "page.png", full_page=True)
        assert (tmp_path / "page.png").stat().st_size > 20_000
    assert said == []
    page.close()


def test_a_freeze_is_shown_and_hostile_names_stay_text(hostile) -> None:
    for path in hostile.glob("2026-W43/*/report.html"):
        page = path.read_text()
        assert "Frozen: spam is not removed automatically" in page
        assert "<script>" not in page
        assert "<img" not in page
    assert len(list(hostile.glob("2026-W43/*/report.html"))) == 2


def test_who_deviates_on_like_items_is_told_with_items_and_the_figures_without(two_weeks: Path) -> None:
    folder = two_weeks / "2026-W40" / "baseline-ngram-2"
    told = json.loads((folder / "report.json").read_text())
    deviating = told["weekly"]["reviewers"]["deviating"]
    (one,) = deviating["accused"]
    first_screen = [item["text"] for item in told["attention"] if one["reviewer_id"] in item["text"]]
    assert "agrees less than colleagues" in first_screen[0]
    assert any(item["text"].startswith("Without this reviewer") for item in told["attention"])
    page = (folder / "report.html").read_text()
    assert all(item["item_id"] in page for item in one["items"]) and one["items"]
    assert "Figures of this week with and without this reviewer" in page
    for row in deviating["figures"]["rows"]:
        assert row["before"]["value"] != row["after"]["value"]
    assert deviating["num_compared"] < deviating["num_reviewers"]
    assert f"{deviating['num_compared']} of {deviating['num_reviewers']} reviewers could be compared so" in page


def test_who_is_held_counts_nowhere_and_the_first_screen_says_so(two_weeks: Path, shared_data: Path, tmp_path: Path) -> None:
    before = json.loads((two_weeks / "2026-W40" / "baseline-ngram-2" / "report.json").read_text())["weekly"]["reviewers"]["deviating"]
    (one,) = before["accused"]
    since, at = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 10, 6, tzinfo=UTC)
    hold = Hold(reviewer_id=one["reviewer_id"], event="hold", since=since, who="Ana", at=at, reason="errs <b>often</b>")
    assert holds.append(tmp_path / "store", hold)
    folder = report(shared_data / "stream", tmp_path, ["2026-W40"]) / "2026-W40" / "baseline-ngram-2"
    told = json.loads((folder / "report.json").read_text())
    assert told["weekly"]["reviewers"]["deviating"]["accused"] == []
    metrics = pd.read_parquet(folder / "metrics.parquet").set_index(["category", "language", "group_column", "metric"])["value"]
    for row in before["figures"]["rows"]:
        if row["after"]["value"] is not None:
            assert metrics[(row["category"], row["language"], "all", row["metric"])] == pytest.approx(row["after"]["value"])
    page = (folder / "report.html").read_text()
    assert f"no verdict of reviewer {one['reviewer_id']} from 2026-01-01 on counts here" in page
    assert "errs &lt;b&gt;often&lt;/b&gt;" in page
