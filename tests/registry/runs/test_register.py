"""Registration: full lineage or nothing, once per content, and what MLflow itself then says."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from upheld.common.errors import BadUse, FailedWork
from upheld.registry import diff
from upheld.registry.runs import register
from upheld.registry.tracking import mlflow_store

MakeWorkspace = Callable[..., Path]


def test_a_run_becomes_one_model_and_its_thresholds_at_alias_challenger(tmp_path: Path, make_workspace: MakeWorkspace) -> None:
    workspace = make_workspace("run-1")
    result = register.run(workspace, tmp_path)
    assert result["model"] == "upheld-moderation/1"
    assert result["thresholds"] == "upheld-thresholds/1"
    assert result["gate"] == "hold"
    registry = mlflow_store.connect(tmp_path)
    model = mlflow_store.by_alias(registry, mlflow_store.MODEL, "challenger")
    thresholds = mlflow_store.by_alias(registry, mlflow_store.THRESHOLDS, "challenger")
    assert model is not None
    assert thresholds is not None
    assert thresholds.tags["upheld.model_version"] == model.label
    assert model.tags["upheld.dvc_lock_sha256"] == hashlib.sha256(b"lock-1").hexdigest()
    assert model.tags["upheld.code_commit"] == "abc123"
    assert model.tags["upheld.dag_id"] == "retrain"
    assert model.tags["upheld.synthetic"] == "true"
    assert model.tags["upheld.logo_dataset_sha256"] == "b" * 64
    assert len(registry.client.search_runs([registry.experiment_id])) == 1
    assert (mlflow_store.bundle_path(registry, model) / "pipeline.json").exists()
    assert mlflow_store.thresholds_path(registry, thresholds).exists()


def test_a_model_that_needs_the_score_of_another_is_tagged_with_it(tmp_path: Path, make_workspace: MakeWorkspace) -> None:
    for number, needed in (("1", None), ("2", "old-1")):
        register.run(make_workspace(f"run-{number}", lock=number, incumbent=needed), tmp_path)
        model = mlflow_store.resolve(mlflow_store.connect(tmp_path), mlflow_store.MODEL, number)
        assert model.tags.get("upheld.incumbent") == needed


def test_run_holds_params_defined_metrics_dataset_and_evidence(tmp_path: Path, make_workspace: MakeWorkspace) -> None:
    run_id = register.run(make_workspace("run-1"), tmp_path)["run_id"]
    registry = mlflow_store.connect(tmp_path)
    params, metrics = mlflow_store.run_params(registry, run_id), registry.client.get_run(run_id).data.metrics
    assert params == {"seed": "1", "text.learning_rate": "0.1"}
    headline = {name: value for name, value in metrics.items() if not name.startswith("training/")}
    assert headline == {"roc_auc/spam/all": 0.75, "map_50/logo/all": 0.5}  # the tables' cells are not among them
    datasets = [given.dataset for given in registry.client.get_run(run_id).inputs.dataset_inputs]
    assert {dataset.name: dataset.digest for dataset in datasets} == {"snapshot": "e" * 36, "logo": "b" * 36}
    for name in (
        "dvc.lock",
        "params.yaml",
        "manifest.json",
        "inputs.json",
        "evaluation/gate.json",
        "evaluation/robustness.parquet",
        "logo_evaluation/logo.json",
    ):
        assert mlflow_store.run_artifact(registry, run_id, name).exists()


def test_the_pages_show_the_reports_first_screen_and_lead_to_airflow_and_back(
    tmp_path: Path, make_workspace: MakeWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = make_workspace("run-1")
    there = "http://127.0.0.1:8080/dags/retrain/runs/manual__1"
    about = json.loads((workspace / "run.json").read_text()) | {"airflow_page": there}
    (workspace / "run.json").write_text(json.dumps(about))
    monkeypatch.setenv("UPHELD_MLFLOW_PAGES", "http://127.0.0.1:5000/")
    result = register.run(workspace, tmp_path)
    registry = mlflow_store.connect(tmp_path)
    shown = f"[The run in Airflow]({there})\n\n### Hold\n\nHold: 1 check failed.\n"
    assert registry.client.get_run(result["run_id"]).data.tags["mlflow.note.content"] == shown
    for name in (mlflow_store.MODEL, mlflow_store.THRESHOLDS):
        assert registry.client.get_model_version(name, "1").description == shown
    assert result["page"] == f"http://127.0.0.1:5000/#/experiments/{registry.experiment_id}/runs/{result['run_id']}"


def test_a_description_ends_with_a_whole_line_within_mlflows_limit(tmp_path: Path, make_workspace: MakeWorkspace) -> None:
    workspace = make_workspace("run-1")
    lines = [f"- line {number} of a long screen" for number in range(400)]
    (workspace / "data/evaluation/first_screen.md").write_text("\n".join(lines))
    register.run(workspace, tmp_path)
    shown = mlflow_store.connect(tmp_path).client.get_model_version(mlflow_store.MODEL, "1").description
    *kept, last = shown.splitlines()
    assert 4900 < len(shown) <= 5000
    assert last == "…"
    assert kept == lines[: len(kept)]


def test_diff_sees_every_cell(tmp_path: Path, make_workspace: MakeWorkspace) -> None:
    register.run(make_workspace("run-1"), tmp_path)
    other = make_workspace("run-2", lock="lock-2")
    table = pd.read_parquet(other / "data/evaluation/metrics.parquet")
    table.assign(value=table.value.replace(0.75, 0.8)).to_parquet(other / "data/evaluation/metrics.parquet")
    register.run(other, tmp_path)
    assert diff.run(tmp_path, "1", "2")["metrics"] == [{"key": "roc_auc/spam/en", "first": 0.75, "second": 0.8}]


def test_epochs_are_curves_of_the_run(tmp_path: Path, make_workspace: MakeWorkspace) -> None:
    run_id = register.run(make_workspace("run-1"), tmp_path)["run_id"]
    registry = mlflow_store.connect(tmp_path)
    logged = {name for name in registry.client.get_run(run_id).data.metrics if name.startswith("training/")}
    points = {
        name.removeprefix("training/"): [(point.step, point.value) for point in registry.client.get_metric_history(run_id, name)]
        for name in logged
    }
    assert points == {
        "text/train_loss": [(1, 1.0), (2, 0.5)],
        "text/val_loss": [(1, 2.0), (2, 1.0)],
        "text/roc_auc/spam": [(1, 0.6), (2, 0.7)],
        "image/val_loss": [(0, 2.0)],
        "image/roc_auc/spam": [(0, 0.6)],
        "logo/train_loss": [(1, 1.5)],
        "logo/map_50": [(1, 0.25)],
    }


def test_the_same_content_registers_once(tmp_path: Path, make_workspace: MakeWorkspace) -> None:
    first = register.run(make_workspace("run-1"), tmp_path)
    again = register.run(make_workspace("run-2"), tmp_path)
    assert (first["status"], again["status"]) == ("registered", "unchanged")
    assert again["model"] == first["model"]
    assert len(mlflow_store.versions(mlflow_store.connect(tmp_path), mlflow_store.MODEL)) == 1


@pytest.mark.parametrize(
    "lost",
    [
        "dvc.lock",
        "data/evaluation/gate.json",
        "data/evaluation/metrics.json",
        "data/snapshot/manifest.json",
        "data/logo/dataset.json",
        "data/logo_evaluation/logo.json",
    ],
)
def test_without_its_lineage_nothing_is_registered(tmp_path: Path, make_workspace: MakeWorkspace, lost: str) -> None:
    workspace = make_workspace("run-1")
    (workspace / lost).unlink()
    with pytest.raises(FailedWork):
        register.run(workspace, tmp_path)
    assert mlflow_store.versions(mlflow_store.connect(tmp_path), mlflow_store.MODEL) == []


def test_a_failed_logging_moves_no_alias_and_marks_the_run_failed(
    tmp_path: Path, make_workspace: MakeWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(mlflow_store, "log_facts", refuse)
    with pytest.raises(OSError, match="disk full"):
        register.run(make_workspace("run-1"), tmp_path)
    registry = mlflow_store.connect(tmp_path)
    assert mlflow_store.by_alias(registry, mlflow_store.MODEL, "challenger") is None
    assert [run.info.status for run in registry.client.search_runs([registry.experiment_id])] == ["FAILED"]


def test_diff_shows_what_changed_and_nothing_else(tmp_path: Path, make_workspace: MakeWorkspace) -> None:
    register.run(make_workspace("run-1"), tmp_path)
    register.run(make_workspace("run-2", lock="lock-2", threshold=None, learning_rate=0.2), tmp_path)
    changes = diff.run(tmp_path, "1", "challenger")
    assert changes["params"] == [{"key": "text.learning_rate", "first": "0.1", "second": "0.2"}]
    assert changes["thresholds"] == [{"key": "spam.auto_remove", "first": 0.9, "second": None}]
    assert changes["metrics"] == []
    assert changes["data"] == []


def test_unknown_version_lists_what_there_is(tmp_path: Path, make_workspace: MakeWorkspace, capsys: pytest.CaptureFixture[str]) -> None:
    register.run(make_workspace("run-1"), tmp_path)
    with pytest.raises(BadUse, match="versions here: 1"):
        diff.run(tmp_path, "1", "7")
    assert diff.main(["1", "7", "--store", str(tmp_path)]) == 2
    assert "versions here: 1" in capsys.readouterr().err
