"""A retrain's run in MLflow while it lasts: who begins it, what it shows meanwhile, how it ends, and that MLflow may be away."""

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from upheld.common.curves import Curves, Totals
from upheld.registry.runs import curves, follow, live, register
from upheld.registry.tracking import live_run, mlflow_store
from upheld.registry.tracking.live_run import Point, Points
from upheld.registry.tracking.mlflow_store import Registry

MakeWorkspace = Callable[..., Path]
BUSY = "system/cpu_utilization_percentage"
AWAY = "http://127.0.0.1:9"  # the discard port, where nobody listens


def only_run(registry: Registry) -> Any:
    (run,) = registry.client.search_runs([registry.experiment_id])
    return run


def history(registry: Registry, run_id: str, name: str) -> list[tuple[int, float]]:
    return sorted((point.step, point.value) for point in registry.client.get_metric_history(run_id, name))


def write_epoch(written: Curves, number: int, loss: float) -> None:
    """Four batches of an epoch, and the epoch's record, as make_workspace has it in metadata.json."""
    for step in range(4 * number - 3, 4 * number + 1):
        within = step - 4 * (number - 1)
        written.write_steps(step, Totals(8 * step, 1.0 * step, loss * within, 1.0 * within), [0.5], {"learning_rate": 0.1 / step})
    areas = {"spam": 0.5 + number / 10, "hate_speech": None}
    written.write_epoch(4 * number, {"epoch": number, "train_loss": 1 / number, "loss": 2 / number, "roc_auc": areas})


def test_a_run_is_under_way_from_its_beginning_and_registered_as_the_same(tmp_path: Path, make_workspace: MakeWorkspace) -> None:
    workspace = make_workspace("run-1")
    live.begin(workspace, tmp_path)
    registry = mlflow_store.connect(tmp_path)
    begun = only_run(registry)
    assert (begun.info.run_name, begun.info.status) == ("run-1", "RUNNING")
    assert (begun.data.tags["upheld.code_commit"], begun.data.tags["upheld.dag_id"]) == ("abc123", "retrain")
    assert begun.data.params == {"seed": "1", "text.learning_rate": "0.1"}
    assert "Under way" in begun.data.tags[mlflow_store.NOTE]
    assert json.loads((workspace / "mlflow.json").read_text()) == {"run_id": begun.info.run_id, "page": None}
    live.begin(workspace, tmp_path)  # a task that is tried again
    assert only_run(registry).info.run_id == begun.info.run_id
    assert register.run(workspace, tmp_path)["run_id"] == begun.info.run_id
    ended = only_run(registry)
    assert ended.info.status == "FINISHED"
    assert ended.data.tags["upheld.gate"] == "hold"
    assert ended.data.metrics["roc_auc/spam/all"] == 0.75
    assert "Under way" not in ended.data.tags[mlflow_store.NOTE]


def test_begin_leads_to_airflow_and_says_where_mlflow_shows_it(
    tmp_path: Path, make_workspace: MakeWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = make_workspace("run-1")
    there = "http://127.0.0.1:8080/dags/retrain/runs/manual__1"
    about = json.loads((workspace / "run.json").read_text()) | {"airflow_page": there}
    (workspace / "run.json").write_text(json.dumps(about))
    monkeypatch.setenv("UPHELD_MLFLOW_PAGES", "http://127.0.0.1:5000")
    live.begin(workspace, tmp_path)
    registry = mlflow_store.connect(tmp_path)
    run = only_run(registry)
    assert run.data.tags[mlflow_store.NOTE].startswith(f"[The run in Airflow]({there})\n\n")
    page = f"http://127.0.0.1:5000/#/experiments/{registry.experiment_id}/runs/{run.info.run_id}"
    assert json.loads((workspace / "mlflow.json").read_text())["page"] == page


def test_curves_show_by_batch_and_epoch_while_the_stage_runs_and_no_point_twice(
    tmp_path: Path, make_workspace: MakeWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "EVERY_S", 0.05)
    monkeypatch.setattr(live_run, "SAMPLE_EVERY_S", 0.2)
    workspace = make_workspace("run-1")
    live.begin(workspace, tmp_path)
    registry = mlflow_store.connect(tmp_path)
    run_id = only_run(registry).info.run_id
    ended = threading.Event()
    follower = threading.Thread(target=follow.run, args=(workspace, tmp_path, "text", ended))
    follower.start()
    written = Curves(curves.file_of(workspace, "text"), 0, 0.0, 0.0)
    write_epoch(written, 1, loss=3.0)
    deadline = time.monotonic() + 120
    while not history(registry, run_id, "training/text/val_loss") or BUSY not in only_run(registry).data.metrics:
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    assert history(registry, run_id, "training/text/steps/loss") == [(step, 3.0) for step in range(1, 5)]
    assert history(registry, run_id, "training/text/steps/samples_per_s") == [(step, 8.0) for step in range(1, 5)]
    assert history(registry, run_id, "training/text/val_loss") == [(1, 2.0)]
    assert only_run(registry).info.status == "RUNNING"
    write_epoch(written, 2, loss=1.0)
    ended.set()
    follower.join()
    assert history(registry, run_id, "training/text/val_loss") == [(1, 2.0), (2, 1.0)]  # it looks once more at its end
    before = len(history(registry, run_id, BUSY))
    again = threading.Event()  # a second try of the stage is followed anew
    follower = threading.Thread(target=follow.run, args=(workspace, tmp_path, "text", again))
    follower.start()
    while len(history(registry, run_id, BUSY)) == before:
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    again.set()
    follower.join()
    with curves.file_of(workspace, "text").open("a") as file:  # nobody followed the last line
        file.write(json.dumps({"time": 5, "step": 9, "figures": {"loss": 0.5}}) + "\n")
    register.run(workspace, tmp_path)
    assert history(registry, run_id, "training/text/steps/loss") == [
        *((step, 3.0) for step in range(1, 5)),
        *((step, 1.0) for step in range(5, 9)),
        (9, 0.5),
    ]
    assert history(registry, run_id, "training/logo/map_50") == [(1, 0.25)]  # of a stage that came out of the cache
    for name in only_run(registry).data.metrics:
        assert max(Counter(step for step, _ in history(registry, run_id, name)).values()) == 1, name


def test_a_failed_task_ends_the_run_and_another_try_goes_on(tmp_path: Path, make_workspace: MakeWorkspace) -> None:
    workspace = make_workspace("run-1")
    live.begin(workspace, tmp_path)
    registry = mlflow_store.connect(tmp_path)
    (workspace / "failure.json").write_text(json.dumps({"task": "text", "message": "out of memory", "exit_code": 1}))
    live.fail(workspace, tmp_path)
    failed = only_run(registry)
    assert (failed.info.status, failed.data.tags["upheld.failed_task"]) == ("FAILED", "text")
    live.begin(workspace, tmp_path)
    running = only_run(registry)
    assert running.info.status == "RUNNING"
    assert "upheld.failed_task" not in running.data.tags
    register.run(workspace, tmp_path)
    assert only_run(registry).info.status == "FINISHED"


def test_a_registration_that_failed_goes_on_in_its_run_without_double_points_or_rows(
    tmp_path: Path, make_workspace: MakeWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = make_workspace("run-1")
    live.begin(workspace, tmp_path)
    registry = mlflow_store.connect(tmp_path)

    def refuse(*_: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(mlflow_store, "log_dataset", refuse)
        with pytest.raises(OSError, match="disk full"):
            register.run(workspace, tmp_path)
    assert only_run(registry).info.status == "FAILED"
    register.run(workspace, tmp_path)
    run = only_run(registry)
    assert run.info.status == "FINISHED"
    for name in run.data.metrics:
        assert max(Counter(step for step, _ in history(registry, run.info.run_id, name)).values()) == 1, name
    table = json.loads(mlflow_store.run_artifact(registry, run.info.run_id, "evaluation/cells.json").read_text())
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert [(row["metric"], row["language"], row["value"]) for row in rows] == [
        ("roc_auc", "en", 0.75),
        ("recall", "tr", None),
        ("recall", "en", 0.5),
    ]


def test_an_equal_retrain_ends_its_own_run_and_points_at_what_was_there(tmp_path: Path, make_workspace: MakeWorkspace) -> None:
    first, second = make_workspace("run-1"), make_workspace("run-2")
    live.begin(first, tmp_path)
    registered = register.run(first, tmp_path)
    live.begin(second, tmp_path)
    assert register.run(second, tmp_path)["status"] == "unchanged"
    registry = mlflow_store.connect(tmp_path)
    runs = {run.info.run_name: run for run in registry.client.search_runs([registry.experiment_id])}
    assert {name: run.info.status for name, run in runs.items()} == {"run-1": "FINISHED", "run-2": "FINISHED"}
    assert runs["run-2"].data.tags["upheld.unchanged"] == "upheld-moderation/1"
    assert runs["run-2"].data.tags["upheld.unchanged_run"] == registered["run_id"] == runs["run-1"].info.run_id
    assert "upheld-moderation/1" in runs["run-2"].data.tags[mlflow_store.NOTE]
    live.begin(first, tmp_path)  # its own registration, tried again
    assert register.run(first, tmp_path)["status"] == "unchanged"
    again = registry.client.get_run(registered["run_id"])
    assert again.info.status == "FINISHED"
    assert "upheld.unchanged" not in again.data.tags


def test_a_run_that_was_deleted_is_made_anew(tmp_path: Path, make_workspace: MakeWorkspace) -> None:
    workspace = make_workspace("run-1")
    live.begin(workspace, tmp_path)
    registry = mlflow_store.connect(tmp_path)
    registry.client.delete_run(only_run(registry).info.run_id)
    run_id = register.run(workspace, tmp_path)["run_id"]
    assert only_run(registry).info.run_id == run_id


def test_runs_of_which_nobody_has_heard_for_an_hour_are_ended(tmp_path: Path, make_workspace: MakeWorkspace) -> None:
    workspaces = {name: make_workspace(name) for name in ("dead", "failed", "alive", "next")}
    registry = mlflow_store.connect(tmp_path)
    for name in ("dead", "failed", "alive"):
        live.begin(workspaces[name], tmp_path)
        (workspaces[name] / "logs").mkdir()
        (workspaces[name] / "logs" / "text.log").touch()
    (workspaces["failed"] / "failure.json").write_text(json.dumps({"task": "text", "message": "no room", "exit_code": 1}))
    live_run.begin(registry, "of another store", {})
    long_ago = time.time() - 3700
    for path in (
        path for name in ("dead", "failed", "alive") for path in (*workspaces[name].glob("logs/*"), workspaces[name] / "mlflow.json")
    ):
        os.utime(path, (long_ago, long_ago))
    os.utime(workspaces["alive"] / "logs" / "text.log")
    live.begin(workspaces["next"], tmp_path)
    runs = {run.info.run_name: run for run in registry.client.search_runs([registry.experiment_id])}
    assert {name: run.info.status for name, run in runs.items()} == {
        "dead": "KILLED",
        "failed": "FAILED",
        "alive": "RUNNING",
        "next": "RUNNING",
        "of another store": "RUNNING",
    }
    assert runs["failed"].data.tags["upheld.failed_task"] == "text"
    ended = threading.Event()
    ended.set()
    follow.run(workspaces["dead"], tmp_path, "text", ended)  # it lives after all
    assert registry.client.get_run(runs["dead"].info.run_id).info.status == "RUNNING"


def test_where_mlflow_is_away_a_line_says_so_and_nothing_is_raised(
    tmp_path: Path, make_workspace: MakeWorkspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in live_run.IMPATIENT:
        monkeypatch.setenv(name, "0")  # set by the command, taken back by the test
    workspace = make_workspace("run-1")
    live.begin(workspace, tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", AWAY)
    monkeypatch.setattr(follow, "EVERY_S", 0.01)
    for failed in ([], ["--failed"]):
        assert live.main(["--workspace", str(workspace), "--store", str(tmp_path), *failed]) == 1
        told = capsys.readouterr().err
        assert "the run goes on without" in told and len(told.splitlines()) == 1
    ended = threading.Event()
    threading.Timer(2.0, ended.set).start()
    follow.run(workspace, tmp_path, "text", ended)
    told = capsys.readouterr().out
    assert "MLflow does not show how it goes" in told and len(told.splitlines()) == 1


def test_a_workspace_without_a_run_is_not_followed(tmp_path: Path, make_workspace: MakeWorkspace) -> None:
    follow.run(make_workspace("run-1"), tmp_path, "text", threading.Event())
    assert not (tmp_path / "mlflow").exists()


def test_of_several_points_for_one_step_the_first_stays(tmp_path: Path) -> None:
    registry = mlflow_store.connect(tmp_path)
    run_id = live_run.begin(registry, "run-1", {})
    Points(registry, run_id).add([Point("loss", 1, 10, 0.5), Point("loss", 1, 20, 0.25), *(Point("rate", n, 10, 1.0) for n in range(2500))])
    Points(registry, run_id).add([Point("loss", 1, 30, 0.125), Point("loss", 2, 30, 0.125)])
    assert history(registry, run_id, "loss") == [(1, 0.5), (2, 0.125)]
    assert len(history(registry, run_id, "rate")) == 2500
