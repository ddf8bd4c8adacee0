"""The export for transparency reports: every official language, values of the metrics table, reasons for gaps, nothing that runs."""

import csv
import json

import pandas as pd
import pytest
from score_worlds import PARAMS, settings, table, thresholds

from upheld.common.errors import BadUse
from upheld.evaluation import dsa_export, evaluate
from upheld.evaluation.dsa_export import HEADER, Report


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluated")
    rows = table(languages=("en", "de", "pt-BR"))
    rows.assign(period="2026-W40").to_parquet(folder / "scores.parquet")
    (folder / "thresholds.json").write_text(json.dumps(thresholds(spam=(0.4, 0.9, ["de"]), hate_speech=(0.5, None, []))))
    evaluate.run(settings(), evaluate.Inputs(folder / "scores.parquet", folder / "thresholds.json"), folder)
    return folder


def export(folder, out, widest=0.2, report=None):
    section = settings(f"dsa_export.max_interval={widest}").dsa_export
    dsa_export.run(section, folder / "metrics.parquet", folder / "report.json", out, report or Report("Acme", "", ""))
    with out.open(encoding="utf-8", newline="") as file:
        return pd.DataFrame(csv.DictReader(file, strict=True))


def cell(rows, category, language, indicator):
    scope = rows.Scope == f"Category {category}; {language}"
    found = rows[scope & (rows.Indicator == indicator)]
    assert len(found) == 1
    return found.iloc[0]


def test_every_official_language_has_every_indicator_once(evaluated, tmp_path) -> None:
    rows = export(evaluated, tmp_path / "dsa.csv")
    assert list(rows) == list(HEADER)
    assert len(dsa_export.OFFICIAL_LANGUAGES) == 24
    assert rows.groupby("Scope").size().eq(10).all()
    assert rows.Scope.nunique() == 2 * 25
    assert set(rows["Reporting period"]) == {"2026-W40"}
    assert set(rows.Service) == {"Acme"}
    assert not rows.Scope.str.contains("sw").any()
    assert (tmp_path / "dsa.csv").read_bytes().count(b"\r\n") == len(rows) + 1
    assert (tmp_path / "dsa.csv").read_bytes().count(b"\n") == len(rows) + 1


@pytest.mark.parametrize(
    ("metric", "indicator"),
    [("accuracy", "Detection: accuracy"), ("recall", "Detection: recall"), ("precision_auto_remove", "Automatic removal: precision")],
)
def test_values_and_context_are_those_of_the_metrics(evaluated, tmp_path, metric, indicator) -> None:
    metrics = pd.read_parquet(evaluated / "metrics.parquet")
    want = metrics[(metrics.category == "spam") & (metrics.language == "en") & (metrics.metric == metric) & (metrics.group_column == "all")]
    row = cell(export(evaluated, tmp_path / "dsa.csv"), "spam", "English (en)", indicator)
    assert float(row.Value) == pytest.approx(want.value.item(), abs=5e-5)
    for part in (
        "Definition: ",
        f"n = {want.n.item()} labelled posts",
        f"90% interval {want.ci_low.item():.4f} to {want.ci_high.item():.4f}",
    ):
        assert part in row["Contextual Information"]


def test_the_error_rate_is_what_accuracy_leaves(evaluated, tmp_path) -> None:
    rows = export(evaluated, tmp_path / "dsa.csv")
    right, wrong = (cell(rows, "spam", "English (en)", f"Detection: {name}") for name in ("accuracy", "error rate"))
    assert float(right.Value) + float(wrong.Value) == pytest.approx(1, abs=1e-4)


def test_what_is_not_known_is_empty_and_says_why(evaluated, tmp_path) -> None:
    rows = export(evaluated, tmp_path / "dsa.csv")
    reasons = {
        ("spam", "Maltese (mt)", "Detection: recall"): "no post in this language",
        ("spam", "German (de)", "Automatic removal: precision"): "automatic removal is off in this language",
        ("hate_speech", "English (en)", "Automatic removal: recall"): "none is removed automatically (abstained)",
    }
    for key, reason in reasons.items():
        row = cell(rows, *key)
        assert row.Value == ""
        assert f"No value: {reason}" in row["Contextual Information"]
    assert not rows["Contextual Information"].str.contains("nan|None", regex=True).any()


def test_wide_intervals_state_no_value_but_the_labels_it_would_take(evaluated, tmp_path) -> None:
    wide, narrow = (
        cell(export(evaluated, tmp_path / f"{widest}.csv", widest), "hate_speech", "Portuguese (pt-BR)", "Detection: recall")
        for widest in (0.01, 1.0)
    )
    assert narrow.Value
    assert wide.Value == ""
    low, high = map(float, wide["Contextual Information"].split("90% interval ")[1].split(" is wider")[0].split(" to "))
    n = int(wide["Contextual Information"].split("n = ")[1].split(" ")[0])
    need = int(wide["Contextual Information"].split("about ")[1].split(" ")[0])
    assert need == pytest.approx(n * ((high - low) / 0.01) ** 2, rel=0.01)


@pytest.mark.parametrize("hostile", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r\n=1", "＝1", "\u202e=1", " =cmd|'/c calc'!A1"])
def test_no_cell_is_a_formula(evaluated, tmp_path, hostile) -> None:
    rows = export(evaluated, tmp_path / "dsa.csv", report=Report(hostile, hostile, hostile))
    for name in HEADER:
        assert not rows[name].str.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "＝", " ")).any()
        assert not rows[name].str.contains("[\n\r\u202e]", regex=True).any()
    assert rows.Service.iloc[0].startswith("'")


def test_quotes_and_commas_survive(evaluated, tmp_path) -> None:
    rows = export(evaluated, tmp_path / "dsa.csv", report=Report('Acme, "the" service', "2026-H1", "all"))
    assert set(rows.Service) == {'Acme, "the" service'}
    assert set(rows.Applicability) == {"all"}


def test_synthetic_data_says_so(evaluated, tmp_path) -> None:
    story = json.loads((evaluated / "report.json").read_text())
    (tmp_path / "metrics.parquet").write_bytes((evaluated / "metrics.parquet").read_bytes())
    (tmp_path / "report.json").write_text(json.dumps(story | {"synthetic": True}))
    assert export(tmp_path, tmp_path / "dsa.csv")["Contextual Information"].str.contains("Synthetic data").all()
    assert not export(evaluated, tmp_path / "dsa.csv")["Contextual Information"].str.contains("Synthetic data").any()


def test_bad_files_are_one_line(evaluated, tmp_path, capsys) -> None:
    metrics, report = evaluated / "metrics.parquet", evaluated / "report.json"
    without_period = json.loads(report.read_text())
    without_period["data"]["periods"] = []
    (tmp_path / "report.json").write_text(json.dumps(without_period))
    pd.read_parquet(metrics).drop(columns="n").to_parquet(tmp_path / "metrics.parquet")
    cases = [
        (tmp_path / "metrics.parquet", report, "no column 'n'"),
        (tmp_path / "nothing.parquet", report, "cannot be read"),
        (report, report, "cannot be read"),
        (metrics, tmp_path / "report.json", "--period"),
        (metrics, evaluated / "thresholds.json", "expected report.json"),
    ]
    for given, story, message in cases:
        arguments = ["--metrics", given, "--report", story, "--service", "s", "--out", tmp_path / "dsa.csv", "--params", PARAMS]
        assert dsa_export.main([str(item) for item in arguments]) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "dsa.csv").exists()


def test_an_older_metrics_table_is_refused(evaluated, tmp_path) -> None:
    rows = pd.read_parquet(evaluated / "metrics.parquet")
    rows[rows.metric != "accuracy"].to_parquet(tmp_path / "metrics.parquet")
    with pytest.raises(BadUse, match="evaluate the scores again"):
        dsa_export.run(
            settings().dsa_export, tmp_path / "metrics.parquet", evaluated / "report.json", tmp_path / "x.csv", Report("s", "p", "")
        )
