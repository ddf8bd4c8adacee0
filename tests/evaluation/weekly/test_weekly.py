"""The weekly report against masks over the delivered tables, and its promises: no pooling of appeals, re-runs that change nothing."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from score_worlds import PARAMS
from weeks import MONDAY, appeals, deliver, tables

from upheld.evaluation.weekly import command as weekly
from upheld.evaluation.weekly import model as week_model
from upheld.evaluation.weekly import scores as week_scores

WEEK = "2026-W43"
REPOSITORY = Path(__file__).resolve().parents[3]


def run(delivery: Path, out: Path, *arguments: str, week: str = WEEK) -> int:
    given = ["--week", week, "--delivery", str(delivery), "--out", str(out), "--params", str(PARAMS), "--store", str(out.parent / "store")]
    return weekly.main([*given, "--set", "gate.required_cells=[spam/all]", *arguments])


def cell(folder: Path, metric: str) -> pd.Series:
    table = pd.read_parquet(folder / "metrics.parquet")
    return table[(table.language == "all") & (table.group_column == "all") & (table.metric == metric)].iloc[0]


@pytest.fixture(scope="module")
def made() -> dict[str, pd.DataFrame]:
    of = tables()
    corrected = of["review_outcomes"].head(1).assign(revision=1, verdict="escalate")  # replaces its first revision
    of["review_outcomes"] = pd.concat([of["review_outcomes"], corrected, appeals(of, 20, "restore")], ignore_index=True)
    return of


@pytest.fixture(scope="module")
def reported(made, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("week")
    assert run(deliver(folder / "in", made), folder / "out") == 0
    return folder / "out"


def audited(made: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Audit labels by plain masks: latest revision, no appeal, no escalation."""
    outcomes = made["review_outcomes"].query("source != 'appeal'").sort_values("revision").groupby("outcome_id").tail(1)
    outcomes = outcomes[outcomes.verdict != "escalate"].assign(label=lambda rows: rows.verdict == "confirm_removal")
    return made["decisions"].merge(outcomes, on=["post_id", "category"]).assign(weight=lambda rows: 1 / rows.inclusion_prob)


def test_precision_and_recall_are_the_weighted_ones_of_the_audit(made, reported) -> None:
    rows = audited(made)
    removed, flagged, bad = rows.action == "auto_remove", rows.action != "none", rows[rows.label]
    precision = np.average(rows.label[removed], weights=rows.weight[removed])
    recall = np.average(bad.action != "none", weights=bad.weight)
    assert cell(reported / "m-1", "precision_auto_remove").value == pytest.approx(precision)
    assert cell(reported / "m-1", "precision_auto_remove").n == removed.sum()
    assert cell(reported / "m-1", "recall").value == pytest.approx(recall)
    assert cell(reported / "m-1", "precision").value == pytest.approx(np.average(rows.label[flagged], weights=rows.weight[flagged]))


def test_thresholds_in_force_are_read_off_the_actions(made, reported) -> None:
    told = json.loads((reported / "m-1" / "report.json").read_text())["weekly"]
    change = told["changes"][0]
    assert change["now"]["auto_remove"] == pytest.approx(0.9, abs=0.002)
    assert change["now"]["review"] == pytest.approx(0.5, abs=0.006)
    actions = made["decisions"].action.value_counts()
    assert change["volume_now"] == {name: actions[name] for name in ("none", "review", "auto_remove")}
    assert told["otherwise_decided"] == 0
    proposed = json.loads((reported / "m-1" / "thresholds.json").read_text())
    assert proposed["model_version"] == "m-1"
    assert proposed["categories"]["spam"]["auto_remove"]["incumbent"] == change["now"]["auto_remove"]
    score, removal = made["decisions"].score, change["proposed"]["auto_remove"]
    off = [name for name, said in proposed["categories"]["spam"]["auto_remove"]["languages"].items() if said["action"] != "auto_remove"]
    on = ~made["decisions"].merge(made["posts"], on="post_id").language.isin(off)
    assert change["volume_proposed"]["auto_remove"] == (0 if removal is None else ((score >= removal) & on).sum())


def test_a_language_without_removals_is_seen_as_switched_off(made) -> None:
    rows = made["decisions"].assign(language="en")
    rows.loc[rows.index % 3 == 0, "language"] = "de"
    rows["action"] = rows.action.where((rows.language == "en") | (rows.action != "auto_remove"), "review")
    shown = week_scores.shown_thresholds(rows).categories["spam"].auto_remove
    assert shown.threshold == pytest.approx(0.9, abs=0.002)
    assert {name: rule.action for name, rule in shown.languages.items()} == {"de": "review", "en": "auto_remove"}


def test_appeals_stand_beside_the_audit_and_never_in_it(made, reported, tmp_path) -> None:
    other = dict(made)
    given = made["review_outcomes"]
    other["review_outcomes"] = given.assign(verdict=given.verdict.where(given.source != "appeal", "confirm_removal"))
    assert run(deliver(tmp_path / "in", other), tmp_path / "out") == 0
    assert pd.read_parquet(tmp_path / "out" / "metrics.parquet").equals(pd.read_parquet(reported / "metrics.parquet"))
    overturned = [
        json.loads((folder / "m-1" / "report.json").read_text())["weekly"]["appeals"][0]["overturned"]
        for folder in (reported, tmp_path / "out")
    ]
    assert overturned == [20, 0]
    assert "20 of 20 decided appeals overturned" in (reported / "m-1" / "report.md").read_text()


def test_a_second_run_gives_the_same_bytes(made, reported, tmp_path) -> None:
    delivery = deliver(tmp_path / "in", {name: rows.sample(frac=1, random_state=3) for name, rows in made.items()})
    assert run(delivery, tmp_path / "out", "--state", str(reported / "state.json")) == 0
    for path in (path for path in reported.rglob("*") if path.is_file()):
        assert (tmp_path / "out" / path.relative_to(reported)).read_bytes() == path.read_bytes(), path.name


def test_a_switch_within_the_week_gives_two_columns(tmp_path) -> None:
    assert run(deliver(tmp_path / "in", tables(models=("m-1", "team/m 2"))), tmp_path / "out") == 0
    told = json.loads((tmp_path / "out" / "weekly.json").read_text())["models"]
    assert [one["model_version"] for one in told] == ["m-1", "team/m 2"]
    assert all((tmp_path / "out" / one["folder"] / "report.html").is_file() for one in told)
    assert set(pd.read_parquet(tmp_path / "out" / "metrics.parquet").model_version) == {"m-1", "team/m 2"}
    story = json.loads((tmp_path / "out" / "m-1" / "report.json").read_text())
    assert [column["decisions"] for column in story["weekly"]["served"]] == [750, 750]
    assert "The model changed within the week" in story["changed"][0]


@pytest.mark.parametrize("name", ["../../up", "..", ".hidden", "a/b", "x" * 300, "<script>"])
def test_no_model_version_leaves_the_folder(name) -> None:
    folder = week_model.folder_name(name)
    assert "/" not in folder
    assert not folder.startswith(".")
    assert 0 < len(folder) < 100


def test_labels_that_came_later_are_unknown(made, tmp_path) -> None:
    delivery = deliver(tmp_path / "in", made)
    assert run(delivery, tmp_path / "out", "--as-of", "2026-10-20T00:00:00Z") == 0
    early = audited(made).reviewed_at <= pd.Timestamp("2026-10-20", tz="UTC")
    assert cell(tmp_path / "out" / "m-1", "labelled").value == early.sum()


def test_drift_is_carried_and_alarms_after_precision_falls(tmp_path) -> None:
    weeks = [tables(seed=number, start=MONDAY + pd.Timedelta(weeks=number), share=0.25 if number == 0 else 0.04) for number in range(3)]
    for of in weeks[1:]:  # harmless posts at the top of the scores
        of["decisions"].loc[of["decisions"].index % 4 == 0, ["score", "action"]] = [0.97, "auto_remove"]
    delivery, state = deliver(tmp_path / "in", *weeks), []
    for number, name in enumerate(("2026-W43", "2026-W44", "2026-W45")):
        assert run(delivery, tmp_path / name, *state, week=name) == 0
        state = ["--state", str(tmp_path / name / "state.json")]
        told = json.loads((tmp_path / name / "m-1" / "report.json").read_text())["weekly"]
        alarm = any(one["alarm"] for one in told["drift"]["cells"] if one["kind"] == "precision")
        assert alarm == (number > 0)
        assert [entry["week"] for entry in told["history"]] == ["2026-W43", "2026-W44", "2026-W45"][: number + 1]
    assert "removals are wrong more often than tolerated" in (tmp_path / "2026-W45" / "m-1" / "report.md").read_text()


def test_gold_corrects_for_reviewers_and_without_it_the_reason_is_given(made, reported, tmp_path) -> None:
    without = json.loads((reported / "m-1" / "report.json").read_text())["weekly"]
    assert "gold" in without["reviewers"]["corrected"][0]["refused"]
    assert any(row["need"] == 100 and "adjudicated" in row["purpose"] for row in without["missing"])
    rows = audited(made)
    gold = pd.DataFrame({"post_id": rows.post_id, "category": "spam", "label": rows.label.astype(int)})
    gold.to_parquet(tmp_path / "gold.parquet")
    assert run(deliver(tmp_path / "in", made), tmp_path / "out", "--gold", str(tmp_path / "gold.parquet")) == 0
    told = json.loads((tmp_path / "out" / "m-1" / "report.json").read_text())["weekly"]["reviewers"]["corrected"][0]
    assert told["refused"] is None
    assert told["lower"] < told["point"] == pytest.approx(cell(reported / "m-1", "precision_auto_remove").value)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--week", "2026-43"), "expected an ISO week"),
        (("--week", "2026-W60"), "expected an ISO week"),
        (("--week", "2026-W40"), "no decision of 2026-W40"),
        (("--state", "nothing.json"), "nothing.json: cannot be read"),
        (("--as-of", "yesterday"), "ISO 8601"),
        (("--gold", "nothing.parquet"), "no such file"),
        (("--thresholds", "nothing.json"), "cannot be read"),
    ],
)
def test_bad_use_is_one_line(made, tmp_path, capfd, arguments, said) -> None:
    assert run(deliver(tmp_path / "in", made), tmp_path / "out", *arguments) == 2
    error = capfd.readouterr().err.strip().splitlines()[-1]
    assert said in error
    assert not (tmp_path / "out" / "weekly.json").exists()


@pytest.mark.parametrize(("column", "value"), [("score", 1.5), ("action", "remove"), ("model_version", None)])
def test_a_broken_decision_is_named(made, tmp_path, capfd, column, value) -> None:
    broken = made["decisions"].copy()
    broken.loc[7, column] = value
    assert run(deliver(tmp_path / "in", made | {"decisions": broken}), tmp_path / "out") == 2
    assert f"part-0.parquet: row 8, column {column}" in capfd.readouterr().err


def test_it_runs_where_nothing_but_the_core_can_be_imported(made, tmp_path) -> None:
    from test_core_install import BLOCK

    delivery = deliver(tmp_path / "in", made)
    arguments = ["--week", WEEK, "--delivery", str(delivery), "--out", str(tmp_path / "out"), "--store", str(tmp_path / "store")]
    script = f"{BLOCK}\nfrom upheld.evaluation.weekly import command as weekly\nsys.exit(weekly.main({arguments!r}))"
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_ledger_says_what_the_delivery_says(made, reported, tmp_path) -> None:
    from upheld.feature_store.ingest import command as ingest

    store, out = tmp_path / "store", tmp_path / "out"
    delivery = deliver(tmp_path / "in", made)
    assert ingest.main([str(delivery), "--store", str(store), "--params", str(PARAMS), "--as-of", "2026-10-30T00:00:00Z"]) == 0
    assert weekly.main(["--week", WEEK, "--out", str(out), "--store", str(store), "--params", str(PARAMS)]) == 0
    assert pd.read_parquet(out / "metrics.parquet").equals(pd.read_parquet(reported / "metrics.parquet"))
