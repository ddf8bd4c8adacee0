"""What goes into production: only with an approver and the gate's consent, on record, once, and back again."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from finished_workspaces import register_two_that_pass_and_one_that_is_held

from upheld.common.errors import BadUse, FailedWork
from upheld.registry import score as serve
from upheld.registry.approvals import log as approval_log
from upheld.registry.approvals.log import Pair
from upheld.registry.production import promote, proposal, thresholds
from upheld.registry.runs import register
from upheld.registry.tracking import mlflow_store

MakeWorkspace = Callable[..., Path]
THRESHOLDS_JSON = {"calibration_digest": "c" * 64, "synthetic": True}


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models that the gate lets pass, a third that it holds; nothing in production."""
    store = tmp_path_factory.mktemp("store")
    register_two_that_pass_and_one_that_is_held(store)
    shutil.copy(store / "mlflow/mlflow.db", store / "as-registered.db")
    return store


@pytest.fixture
def store(registered: Path) -> Path:
    """The same registry for every test, as it was registered: the database is put back, since making one takes seconds."""
    shutil.rmtree(registered / "approvals", ignore_errors=True)
    with (
        closing(sqlite3.connect(registered / "as-registered.db")) as kept,
        closing(sqlite3.connect(registered / "mlflow/mlflow.db")) as used,
    ):
        kept.backup(used)
    return registered


def in_production(store: Path) -> tuple[int | None, int | None]:
    registry = mlflow_store.connect(store)
    found = (mlflow_store.by_alias(registry, name, "champion") for name in (mlflow_store.MODEL, mlflow_store.THRESHOLDS))
    model, bounds = (version.number if version else None for version in found)
    return model, bounds


def approve(store: Path, model: str | None = None, bounds: str | None = None, **options: Any) -> dict[str, Any]:
    return promote.run(store, model, bounds, **{"approver": "Ada", "note": "looked at the report"} | options)


def weekly(store: Path, folder: Path, threshold: float | None, model: str = "champion", **changed: Any) -> dict[str, Any]:
    """Register thresholds as a weekly calibration would."""
    removal = {"threshold": threshold, "outcome": "certified"}
    content = THRESHOLDS_JSON | {"categories": {"spam": {"auto_remove": removal, "review": {"threshold": 0.4}}}} | changed
    folder.mkdir(exist_ok=True)
    (folder / "weekly.json").write_text(json.dumps(content))
    for name in ("report.html", "report.md"):
        (folder / name).write_text("# Weekly\n\n## Summary by category\n")
    return thresholds.run(folder / "weekly.json", model, folder, "weekly 2026-W43", store)


def test_promoting_moves_both_aliases_and_says_who_and_what_before(store: Path) -> None:
    assert approve(store, "1")["before"] == {"model": None, "thresholds": None}
    result = approve(store, "2")
    assert (result["status"], result["before"]) == ("promoted", {"model": 1, "thresholds": 1})
    assert in_production(store) == (2, 2)
    registry = mlflow_store.connect(store)
    for name in (mlflow_store.MODEL, mlflow_store.THRESHOLDS):
        tags = mlflow_store.resolve(registry, name, "champion").tags
        assert (tags["upheld.approved_by"], tags["upheld.approval_note"]) == ("Ada", "looked at the report")
        assert tags["upheld.approved_at"] == result["at"]
        assert tags["upheld.replaced"] == "model 1 with thresholds 1"
    assert [(item.after.model, item.before.model) for item in approval_log.changes(store)] == [(1, None), (2, 1)]


def test_what_is_in_production_is_not_promoted_again(store: Path) -> None:
    first = approve(store, "1")
    again = approve(store, "1", approver="Bob", instead_of="nothing")
    assert (again["status"], again["approver"], again["at"]) == ("unchanged", "Ada", first["at"])
    assert len(approval_log.read(store)) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "3"}, "the gate holds upheld-moderation/3; its report says why, and --despite-hold"),
        ({"model": "3", "despite_hold": "  "}, "--despite-hold"),
        ({"model": "9"}, "no version or alias '9'; versions here: 3, 2, 1"),
        ({"bounds": "9"}, "no version or alias 'champion'"),
        ({"model": "1", "bounds": "2"}, "upheld-thresholds/2 belongs to upheld-moderation/2, not to upheld-moderation/1"),
        ({"model": "1", "approver": " "}, "--approver"),
        ({"model": "1", "note": "x" * 3000}, "at most 2000 characters"),
    ],
)
def test_what_must_not_go_into_production_is_refused(store: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadUse, match=message):
        approve(store, **options)
    assert in_production(store) == (None, None)
    assert approval_log.read(store) == []


def test_a_reason_overrules_the_gate_and_is_kept(store: Path) -> None:
    approve(store, "3", despite_hold="the old one is down")
    assert in_production(store) == (3, 3)
    (said,) = approval_log.read(store)
    assert said.despite_hold == "the old one is down"


def test_an_approval_counts_for_what_was_shown_alone(store: Path) -> None:
    shown = proposal.run(store, "2", None)
    approve(store, "1")
    with pytest.raises(FailedWork, match="a change from nothing, but now model 1 with thresholds 1 is in production"):
        approve(store, shown["model"], shown["thresholds"], instead_of=shown["instead_of"])
    assert in_production(store) == (1, 1)


def test_rollback_goes_back_step_by_step_and_is_recorded(store: Path) -> None:
    approve(store, "1")
    approve(store, "2")
    approve(store, "3", despite_hold="urgent")
    assert promote.rollback(store, "Bob", "complaints")["model"] == "upheld-moderation/2"
    assert promote.rollback(store, "Bob", "still")["model"] == "upheld-moderation/1"
    assert in_production(store) == (1, 1)
    last = approval_log.read(store)[-1]
    assert (last.action, last.approver, last.note, last.before) == ("rollback", "Bob", "still", Pair(2, 2))
    with pytest.raises(BadUse, match="nothing to go back to"):
        promote.rollback(store, "Bob", "")


def test_an_alias_moved_by_other_means_is_seen(store: Path) -> None:
    approve(store, "1")
    registry = mlflow_store.connect(store)
    mlflow_store.point_alias(registry, "champion", mlflow_store.resolve(registry, mlflow_store.MODEL, "2"))
    with pytest.raises(FailedWork, match=r"alias champion names model 2 with thresholds 1, but the last approval in .* is of model 1 with"):
        promote.rollback(store, "Bob", "")


def test_a_crash_between_the_two_moves_is_finished_by_the_next_call(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    approve(store, "1")
    point = mlflow_store.point_alias

    def crash(registry: Any, alias: str, version: mlflow_store.Version) -> None:
        if version.name == mlflow_store.THRESHOLDS:
            raise OSError("killed")
        point(registry, alias, version)

    with monkeypatch.context() as patch:
        patch.setattr(mlflow_store, "point_alias", crash)
        with pytest.raises(OSError, match="killed"):
            approve(store, "2")
    assert in_production(store) == (2, 1)
    with pytest.raises(FailedWork, match="upheld promote --model 2 --thresholds 2"):
        serve.resolve(store, mlflow_store.connect(store), None)
    assert approve(store, "2")["status"] == "unchanged"
    assert in_production(store) == (2, 2)
    assert len(approval_log.read(store)) == 2


def test_a_crash_before_any_move_is_finished_by_the_next_call(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    approve(store, "1")

    def crash(*_: object) -> None:
        raise OSError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(mlflow_store, "tag_version", crash)
        with pytest.raises(OSError, match="killed"):
            approve(store, "2")
    assert in_production(store) == (1, 1)
    assert promote.rollback(store, "Bob", "")["model"] == "upheld-moderation/1"  # from 2, which was approved
    assert [item.action for item in approval_log.read(store)] == ["promote", "promote", "rollback"]


def test_thresholds_alone_take_effect_only_once_approved(store: Path, tmp_path: Path) -> None:
    approve(store, "1")
    assert weekly(store, tmp_path / "w", 0.93)["thresholds"] == "upheld-thresholds/4"
    registry = mlflow_store.connect(store)
    assert [version.number for version in serve.resolve(store, registry, None)] == [1, 1]
    approve(store, bounds="4")
    assert [version.number for version in serve.resolve(store, registry, None)] == [1, 4]
    approve(store, "2")
    assert [version.number for version in serve.resolve(store, registry, "1")] == [1, 4]  # approved for it last
    promote.rollback(store, "Bob", "")
    assert in_production(store) == (1, 4)
    promote.rollback(store, "Bob", "")
    assert in_production(store) == (1, 1)


def test_thresholds_are_registered_once_with_certificate_and_report(store: Path, tmp_path: Path) -> None:
    first, again = (weekly(store, tmp_path / "w", 0.93, "2") for _ in range(2))
    assert (first["status"], again["status"], again["thresholds"]) == ("registered", "unchanged", first["thresholds"])
    registry = mlflow_store.connect(store)
    version = mlflow_store.resolve(registry, mlflow_store.THRESHOLDS, "4")
    assert version.tags["upheld.model_version"] == "upheld-moderation/2"
    assert json.loads(mlflow_store.thresholds_path(registry, version).read_text())["categories"]["spam"]["auto_remove"]["threshold"] == 0.93
    assert mlflow_store.run_files(registry, version.run_id, "evaluation") == {"evaluation/report.html", "evaluation/report.md"}
    with pytest.raises(BadUse, match="no version or alias 'champion'"):
        approve(store, bounds="4")
    approve(store, "1")
    with pytest.raises(BadUse, match="belongs to upheld-moderation/2, not to upheld-moderation/1"):
        approve(store, bounds="4")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"calibration_digest": "0" * 64}, "another calibration than upheld-moderation/1 applies"),
        ({"categories": {}}, r"key categories: expected \['spam'\], found \[\]"),
        ({"categories": {"spam": {"auto_remove": {"threshold": 7}, "review": {"threshold": 0.4}}}}, r"spam\.auto_remove\.threshold"),
    ],
)
def test_thresholds_of_another_scale_are_not_registered(store: Path, tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(BadUse, match=message):
        weekly(store, tmp_path / "w", 0.93, "1", **changed)
    assert len(mlflow_store.versions(mlflow_store.connect(store), mlflow_store.THRESHOLDS)) == 3


def test_removal_without_a_certificate_is_held(store: Path, tmp_path: Path) -> None:
    approve(store, "1")
    unproven = {"spam": {"auto_remove": {"threshold": 0.7, "outcome": "insufficient"}, "review": {"threshold": 0.4}}}
    assert weekly(store, tmp_path / "w", None, categories=unproven)["gate"] == "hold"
    with pytest.raises(BadUse, match="the gate holds upheld-thresholds/4"):
        approve(store, bounds="4")


def test_the_proposal_shows_gate_comparison_thresholds_and_report(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    approve(store, "1")
    told = proposal.run(store, None, None)  # the challenger
    (place,) = [line.split("`")[1] for line in told["body"].splitlines() if line.startswith("Whole report: ")]
    assert "<h1>" in Path(place).read_text()
    assert Path(place).is_relative_to(store / "mlflow/artifacts")  # a folder that stays, not a copy
    monkeypatch.setenv("UPHELD_MLFLOW_PAGES", "http://127.0.0.1:5000")
    told = proposal.run(store, None, None)
    assert (told["status"], told["model"], told["thresholds"], told["instead_of"]) == ("ask", "3", "3", "model 1 with thresholds 1")
    assert "HELD by the gate" in told["subject"]
    body = told["body"]
    assert "- **Fail:** Spam, ranking (ROC-AUC): 40 labelled rows do not settle it" in body
    assert "## Against champion 1, on the same posts" in body
    assert "| spam | all | 0.762 | 0.750 | +0.013 (+0.003 to +0.022) | 300 |" in body
    assert "- Spam: change of recall: +0.020 (+0.010 to +0.030)" in body
    assert "| spam | remove automatically | 0.9000 | none | Stays off. 812 labels do not show 95 % precision. |" in body
    assert "| spam | send to review | 0.4000 | 0.4000 | Insufficient. About 5,580 labels would be needed. |" in body
    assert "Hold: 1 check failed." in body
    assert "far" not in body  # below the first screen
    registry = mlflow_store.connect(store)
    run_id = mlflow_store.resolve(registry, mlflow_store.MODEL, "3").run_id
    assert f"(http://127.0.0.1:5000/#/experiments/{registry.experiment_id}/runs/{run_id}/artifacts/evaluation/report.html)" in body
    assert "Whole report: " not in body


def test_a_version_whose_report_has_no_first_screen_of_its_own_says_so(store: Path, tmp_path: Path) -> None:
    approve(store, "1")
    weekly(store, tmp_path / "weekly", 0.95, "1")
    body = proposal.run(store, None, "4")["body"]
    assert "## The report\n\nupheld-thresholds/4 was registered before its report had a first_screen.md of its own" in body
    assert "# Weekly" not in body


def test_the_first_proposal_shows_the_comparison_with_what_served(tmp_path: Path, make_workspace: MakeWorkspace) -> None:
    """Without a champion; of languages those that differ, and no rates, for what served has thresholds of its own."""
    workspace = make_workspace("run-1", lock="1")
    decision = json.loads((workspace / "data/evaluation/gate.json").read_text())
    register.run(workspace, tmp_path / "before")
    assert "There is nothing to compare with" in proposal.run(tmp_path / "before", None, None)["body"]
    decision["compared_with"] = {"kind": "served", "names": ["baseline-ngram-2"]}
    (workspace / "data/evaluation/gate.json").write_text(json.dumps(decision))
    compared = {"all": (-0.085, -0.11, -0.06), "en": (-0.09, -0.12, -0.06), "de": (-0.01, -0.04, 0.02)}
    rows = [("misinformation", name, "roc_auc_change", *row, 1234, "against baseline-ngram-2") for name, row in compared.items()]
    rows += [("misinformation", "all", name, area, None, None, 1234, None)
             for name, area in (("roc_auc_same_posts", 0.892), ("roc_auc_comparator", 0.977))]  # fmt: skip
    columns = ["category", "language", "metric", "value", "ci_low", "ci_high", "n", "reason"]
    pd.DataFrame(rows, columns=columns).assign(group_column="all").to_parquet(workspace / "data/evaluation/metrics.parquet")
    register.run(workspace, tmp_path / "store")
    body = proposal.run(tmp_path / "store", None, None)["body"]
    section = body.partition("## Against the model that served (baseline-ngram-2), on the same posts")[2].partition("\n## ")[0]
    assert "| misinformation | all | 0.892 | 0.977 | -0.085 (-0.110 to -0.060) | 1,234 |" in section
    assert "| misinformation | en | — | — | -0.090 (-0.120 to -0.060) | 1,234 |" in section
    assert "| misinformation | de |" not in section
    assert "these weighted figures decide" in section
    assert "in production" not in section


def test_the_proposal_says_when_the_comparison_is_with_another_than_the_champion(store: Path) -> None:
    approve(store, "3", despite_hold="urgent")
    assert "compared with model 1, but model 3 is in production" in proposal.run(store, "2", None)["body"]
    assert proposal.run(store, "3", None)["status"] == "nothing"


def test_hostile_names_stay_text(tmp_path: Path, make_workspace: MakeWorkspace) -> None:
    workspace = make_workspace("run-4", lock="4")
    hostile = {"name": "x", "scope": "<img src=x>|**a**/all", "status": "fail", "value": None, "bound": None, "reason": "[go](http://x)"}
    (workspace / "data/evaluation/gate.json").write_text(json.dumps({"decision": "hold", "checks": [hostile]}))
    register.run(workspace, tmp_path)
    body = proposal.run(tmp_path, None, None)["body"]
    assert "<img" not in body
    assert r"\[go\](http\://x)" in body


def test_the_commands(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = ["--store", str(store)]
    assert promote.main(["--model", "1", *place]) == 2
    assert "--approver" in capsys.readouterr().err
    assert promote.main(["--describe", "--result", str(tmp_path / "told.json"), *place]) == 0
    assert json.loads((tmp_path / "told.json").read_text())["model"] == "3"
    capsys.readouterr()
    assert promote.main(["--model", "1", "--approver", "Ada", "--json", *place]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "promoted"
    assert promote.main(["--model", "2", "--approver", "Ada", *place]) == 0
    assert promote.rollback_main(["--approver", "Bob", *place]) == 0
    assert "rolled back to upheld-moderation/1" in capsys.readouterr().out
    assert promote.rollback_main(["--approver", "Bob", *place]) == 2
