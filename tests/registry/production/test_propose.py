"""From a week's labels to a question about the thresholds: what is registered, and when nobody is asked."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from finished_workspaces import register_two_that_pass_and_one_that_is_held
from score_worlds import PARAMS, thresholds
from weeks import deliver, tables

from upheld.common.errors import BadUse
from upheld.common.params import params
from upheld.evaluation import behaviour
from upheld.evaluation.weekly import command as weekly_command
from upheld.evaluation.weekly.report import ModelSummary, WeeklySummary
from upheld.feature_store.contracts.workspace import Event, read_inputs
from upheld.feature_store.decisions import freezes
from upheld.feature_store.decisions.thresholds import Thresholds
from upheld.feature_store.ingest import command as ingest
from upheld.registry.production import champion, promote, proposal, weekly
from upheld.registry.runs import pin
from upheld.registry.tracking import mlflow_store

WEEK = "2026-W43"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model 1 is in production and served in the week; the ledger holds the week."""
    folder = tmp_path_factory.mktemp("store")
    register_two_that_pass_and_one_that_is_held(folder)
    promote.run(folder, "1", None, approver="Ada", note="")
    delivery = deliver(folder / "in", tables(models=("upheld-moderation/1",)))
    arguments = [str(delivery), "--store", str(folder), "--params", str(PARAMS), "--as-of", "2026-10-30T00:00:00Z"]
    assert ingest.main(arguments) == 0
    return folder


@pytest.fixture(scope="module")
def reported(store: Path) -> Path:
    """The report on the week, as the DAG makes it."""
    out, ruled = store / "weekly" / WEEK, store / "weekly" / "in_force.json"
    weekly.in_force(store, WEEK, ruled, ruled.with_suffix(".champion.json"))
    arguments = ["--week", WEEK, "--out", str(out), "--thresholds", str(ruled), "--store", str(store), "--params", str(PARAMS)]
    assert weekly_command.main(arguments) == 0
    return out


def thresholds_of(store: Path, number: str) -> dict[str, Any]:
    registry = mlflow_store.connect(store)
    path = mlflow_store.thresholds_path(registry, mlflow_store.resolve(registry, mlflow_store.THRESHOLDS, number))
    return json.loads(path.read_text())


def test_the_thresholds_in_force_are_those_in_production_and_name_their_model(store: Path, tmp_path: Path) -> None:
    label = tmp_path / "champion.json"
    weekly.in_force(store, WEEK, tmp_path / "in_force.json", label)
    found = json.loads((tmp_path / "in_force.json").read_text())
    assert found == thresholds_of(store, "1") | {"model_version": "upheld-moderation/1"}
    label.unlink()
    assert "did not serve" in weekly.in_force(store, "2026-W40", tmp_path / "in_force.json", label)
    assert not (tmp_path / "in_force.json").exists()
    assert json.loads(label.read_text()) == {"model_version": "upheld-moderation/1"}  # in production, whether it served or not


def test_the_label_says_which_score_the_model_in_production_needs(store: Path, tmp_path: Path) -> None:
    registry = mlflow_store.connect(store)
    model = mlflow_store.resolve(registry, mlflow_store.MODEL, "1")
    assert mlflow_store.INCUMBENT not in model.tags
    mlflow_store.tag_version(registry, model, {mlflow_store.INCUMBENT: "old-1"})
    weekly.in_force(store, WEEK, tmp_path / "in_force.json", tmp_path / "champion.json")
    assert json.loads((tmp_path / "champion.json").read_text()) == {"model_version": "upheld-moderation/1", "incumbent": "old-1"}
    registry.client.delete_model_version_tag(model.name, str(model.number), mlflow_store.INCUMBENT)


def test_a_weeks_proposal_is_registered_once_asked_about_and_approved(store: Path, reported: Path) -> None:
    told = weekly.propose(store, reported)
    assert told == weekly.propose(store, reported)
    assert (told["status"], told["model"]) == ("proposed", "1")
    content = thresholds_of(store, told["thresholds"])
    certified = json.loads((reported / _folder(reported) / "thresholds.json").read_text())
    assert content["categories"] == certified["categories"]
    assert content["calibration_digest"] == "c" * 64
    asked = proposal.run(store, None, told["thresholds"])
    assert asked["status"] == "ask"
    removal, before = content["categories"]["spam"]["auto_remove"], thresholds_of(store, "1")["categories"]["spam"]["auto_remove"]
    assert f"| {before['threshold']:.4f} | {removal['threshold']:.4f} | {removal['outcome'].capitalize()}" in asked["body"]
    (change,) = json.loads((reported / _folder(reported) / "report.json").read_text())["weekly"]["changes"]
    served = [f"{change['volume_now'][name]:,} → {change['volume_proposed'][name]:,}" for name in ("auto_remove", "review", "none")]
    assert f"Counted on the posts of {WEEK}, under the thresholds in force and under the proposed ones." in asked["body"]
    assert f"| spam | {' | '.join(served)} |" in asked["body"]
    assert sum(change["volume_now"].values()) == sum(change["volume_proposed"].values()) == 1500  # the week's posts
    assert "## The report" in asked["body"]
    assert "report.html" in asked["body"]
    assert champion.current(mlflow_store.connect(store)) == champion.Pair(1, 1)  # a proposal changes nothing
    promote.run(store, None, told["thresholds"], approver="Bo", note="", despite_hold="one week's gate", instead_of=asked["instead_of"])
    assert champion.current(mlflow_store.connect(store)) == champion.Pair(1, int(told["thresholds"]))
    again = weekly.propose(store, reported)
    assert again["status"] == "nothing"
    assert "in force already" in again["why"]


def _folder(reported: Path) -> str:
    (one,) = json.loads((reported / "weekly.json").read_text())["models"]
    return str(one["folder"])


@pytest.mark.parametrize(("model", "changes", "why"), [("m-1", 1, "did not serve"), ("upheld-moderation/1", 0, "support no change")])
def test_nobody_is_asked_where_nothing_is_proposed(store: Path, tmp_path: Path, model: str, changes: int, why: str) -> None:
    one = ModelSummary(model_version=model, folder="one", decision="promote", headline="", num_changes=changes)
    WeeklySummary(week=WEEK, models=[one]).write(tmp_path)
    told = weekly.propose(store, tmp_path)
    assert (told["status"], told["thresholds"]) == ("nothing", None)
    assert why in told["why"]


def test_nothing_in_production_has_no_thresholds(tmp_path: Path) -> None:
    (tmp_path / "weekly.json").write_text(json.dumps({"week": WEEK, "models": []}))
    label = tmp_path / "champion.json"
    for why in ("nothing is registered yet", "nothing is in production"):
        assert why in weekly.propose(tmp_path / "store", tmp_path)["why"]
        assert why in weekly.in_force(tmp_path / "store", WEEK, tmp_path / "in_force.json", label)
        assert json.loads(label.read_text()) == {"model_version": None}
        mlflow_store.connect(tmp_path / "store")


def test_a_category_without_a_decision_keeps_its_thresholds() -> None:
    before = Thresholds.parse(thresholds(spam=(0.1, 0.5, ()), hate_speech=(0.2, 0.6, ())) | {"calibration_digest": "c"})
    merged = weekly.completed(Thresholds.parse(thresholds(spam=(0.3, 0.7, ())) | {"week": WEEK}), before)
    assert {name: merged.threshold(name, "auto_remove") for name in merged.categories} == {"spam": 0.7, "hate_speech": 0.6}
    assert merged.calibration_digest == "c"
    assert merged.model_dump()["week"] == WEEK


def test_an_unfinished_report_is_refused(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BadUse, match=r"weekly\.json: cannot be read"):
        weekly.propose(store, tmp_path)
    assert weekly.main(["--report", str(tmp_path), "--store", str(store)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    for content, key in (
        ("{", "key : Invalid JSON"),
        ('{"week": "2026-W43", "models": [{"folder": "one"}]}', "key models.0.model_version"),
    ):
        (tmp_path / "weekly.json").write_text(content)
        with pytest.raises(BadUse, match=rf"weekly\.json: {key}.*again with `upheld weekly`"):
            weekly.propose(store, tmp_path)


def test_the_question_says_what_is_frozen_and_what_behaviour_tests_found(store: Path, tmp_path: Path) -> None:
    before = proposal.run(store, "2", None)["body"]
    assert "**Frozen:**" not in before
    assert "Not run for this model: `upheld behave 2" in before
    freezes.append(store, Event(category="spam", event="freeze", who="Ana|", at="2026-10-20T08:00:00Z", reason="`quotes`"))
    found = ("all", "all", "pass_rate", 0.5, 0.3, 0.7, 20.0, "FAIL", None, "expected: at least 0.8")
    rows = [("spam", language, *found) for language in ("all", "en")]
    columns = ["category", "language", "group_column", "group_value", "metric", *behaviour.FIGURES]
    told = {"model_version": "upheld-moderation/2", "thresholds_version": "upheld-thresholds/2", "synthetic": True, "suite": "a_b.csv",
            "suite_digest": "d" * 64, "cases": 20, "pairs": 0}  # fmt: skip
    behaviour.write(tmp_path, pd.DataFrame(rows, columns=columns), told)
    behaviour.keep(store, tmp_path)
    after = proposal.run(store, "2", None)["body"]
    assert r"**Frozen:** spam is not removed automatically since 2026-10-20 08:00 by Ana\| (\`quotes\`)" in after
    assert r"- a\_b.csv: 0 of 0 functionalities and groups fail" in after
    assert "spam, en: 50.0 % of 20 cases decided as expected (30.0 % to 70.0 %), FAIL" in after


def test_a_retrain_pins_what_is_frozen(store: Path, tmp_path: Path) -> None:
    event = Event(category="hate_speech", event="freeze", who="Ana", at="2026-10-20T08:00:00Z", reason="quotes")
    freezes.append(store, event)
    pin.run(store, tmp_path / "inputs.json", params.load(PARAMS))
    assert event in read_inputs(tmp_path / "inputs.json").frozen
    freezes.append(store, event.model_copy(update={"event": "unfreeze"}))
    pin.run(store, tmp_path / "inputs.json", params.load(PARAMS))
    assert event not in read_inputs(tmp_path / "inputs.json").frozen
