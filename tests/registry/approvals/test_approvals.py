"""The record of approvals: what it keeps, what is refused without it, and how people see it."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from finished_workspaces import register_two_that_pass_and_one_that_is_held, thresholds_json

from upheld.common.errors import BadUse, FailedWork
from upheld.feature_store.contracts import hashing
from upheld.registry import behave
from upheld.registry import score as serve
from upheld.registry.approvals import log as approval_log
from upheld.registry.approvals.log import Pair
from upheld.registry.production import answer, promote, proposal, thresholds, weekly
from upheld.registry.runs import pin
from upheld.registry.tracking import mlflow_store


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models 1 and 2, which the gate lets pass, and 3, which it holds; bundles, thresholds and database are kept to be put back."""
    store = tmp_path_factory.mktemp("store")
    register_two_that_pass_and_one_that_is_held(store)
    shutil.copytree(store / "mlflow", store / "as-registered")
    return store


@pytest.fixture
def store(registered: Path) -> Path:
    for name in ("approvals", "mlflow/artifacts", "bundles"):
        shutil.rmtree(registered / name, ignore_errors=True)
    shutil.copytree(registered / "as-registered/artifacts", registered / "mlflow/artifacts")
    with (
        closing(sqlite3.connect(registered / "as-registered/mlflow.db")) as kept,
        closing(sqlite3.connect(registered / "mlflow/mlflow.db")) as used,
    ):
        kept.backup(used)
    return registered


def records(store: Path) -> list[dict[str, Any]]:
    """What lies on disk, read without our own reader."""
    return [json.loads(path.read_text()) for path in sorted((store / "approvals").glob("*.json"))]


def in_mlflow(store: Path, model: int, bounds: int, **tags: str) -> None:
    """What anybody who reaches MLflow can do: move both aliases, and write what tags they like."""
    registry = mlflow_store.connect(store)
    for name, number in ((mlflow_store.MODEL, model), (mlflow_store.THRESHOLDS, bounds)):
        registry.client.set_registered_model_alias(name, "champion", str(number))
        for key, value in tags.items():
            registry.client.set_model_version_tag(name, str(number), key, value)


def bundle_of(store: Path, number: int) -> Path:
    registry = mlflow_store.connect(store)
    return mlflow_store.bundle_path(registry, mlflow_store.resolve(registry, mlflow_store.MODEL, str(number)))


def score(store: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str]:
    """Exit code and error of `upheld score`, whose model is a file that says what it is; no post is read."""
    post = store / "post.json"
    post.write_text("{}")
    code = serve.main(["--post", str(post), "--store", str(store), *options])
    return code, capsys.readouterr().err


def taken(error: str) -> bool:
    """Whether `score` went on to load the model: the stand-in for a bundle is none."""
    return "pipeline.json: format None" in error


def test_an_approval_lies_in_the_store_with_all_that_was_known(store: Path) -> None:
    promote.run(store, "1", None, approver="Ada", note="read it")
    promote.run(store, "3", None, approver="Bo", note="", despite_hold="the old one is down")
    first, second = records(store)
    assert (first["action"], first["approver"], first["note"], first["gate"], first["despite_hold"]) == (
        "promote",
        "Ada",
        "read it",
        "promote",
        None,
    )
    assert (first["before"], first["after"]) == ({"model": None, "thresholds": None}, {"model": 1, "thresholds": 1})
    assert first["bundle_sha256"] == hashing.of_folder(bundle_of(store, 1))
    assert first["thresholds_sha256"] == hashing.of_file(store / "runs/run-1/data/calibration/thresholds.json")
    assert first["at"].endswith("Z")
    assert (second["gate"], second["despite_hold"], second["before"]["model"]) == ("hold", "the old one is down", 1)


def test_records_are_numbered_and_none_is_ever_overwritten(tmp_path: Path) -> None:
    made = approval_log.Approval(
        action="reject", after=Pair(1, 1), before=Pair(), approver="Ada", note="", despite_hold=None, gate="hold", bundle_sha256=None,
        thresholds_sha256=None, at="2026-11-28T10:00:00Z",
    )  # fmt: skip
    approval_log.append(tmp_path, made)
    taken = (tmp_path / "approvals/000002.json").resolve()
    with pytest.MonkeyPatch.context() as patch:  # another process writes the second record after we have counted
        link = approval_log.files.os.link
        first = [True]

        def late(source: str, target: Path) -> None:
            if first.pop() if first else False:
                taken.write_text(made.model_dump_json())
            link(source, target)

        patch.setattr(approval_log.files.os, "link", late)
        approval_log.append(tmp_path, made.model_copy(update={"approver": "Bo"}))
    assert [item.approver for item in approval_log.read(tmp_path)] == ["Ada", "Ada", "Bo"]
    assert sorted(path.name for path in (tmp_path / "approvals").iterdir()) == ["000001.json", "000002.json", "000003.json"]


def test_a_damaged_record_is_never_passed_over(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    promote.run(store, "1", None, approver="Ada", note="")
    (store / "approvals/000001.json").write_text("{")
    code, error = score(store, capsys)
    assert code == 2
    assert "000001.json: is not a record of an approval" in error


def test_score_refuses_what_nobody_approved_although_mlflow_says_so(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    promote.run(store, "1", None, approver="Ada", note="")
    assert taken(score(store, capsys)[1])
    swapped = bundle_of(store, 2) / "pipeline.json"
    swapped.write_text('{"lock": "another"}')
    forged = {"upheld.bundle_sha256": hashing.of_folder(swapped.parent), "upheld.approved_by": "Ada", "upheld.gate": "promote"}
    in_mlflow(store, 2, 2, **forged)
    registry = mlflow_store.connect(store)
    said = {"action": "promote", "after": {"model": 2, "thresholds": 2}, "before": {"model": 1, "thresholds": 1}, "approver": "Ada"}
    registry.client.set_registered_model_tag(mlflow_store.MODEL, "upheld.approval.2030-01-01T00:00:00", json.dumps(said))
    for options in ((), ("--model", "champion")):
        code, error = score(store, capsys, *options)
        assert (code, len(error.splitlines())) == (1, 1)
        assert "alias champion names model 2 with thresholds 2, but the last approval" in error
        assert "is of model 1 with thresholds 1" in error
        assert "`upheld promote --model 2 --thresholds 2 --approver NAME`" in error
    with pytest.raises(FailedWork, match="alias champion names"):
        pin.export_champion(store)
    with pytest.raises(FailedWork, match="alias champion names"):
        behave.load_model(store, "champion")
    (store / "weekly.json").write_text('{"week": "2026-W43", "models": []}')
    with pytest.raises(FailedWork, match="alias champion names"):
        weekly.propose(store, store)
    with pytest.raises(FailedWork, match="alias champion names"):  # thresholds alone would approve the champion along with them
        promote.run(store, None, "2", approver="Ada", note="")
    assert "alias champion names" in weekly.in_force(store, "2026-W43", store / "in_force.json", store / "champion.json")
    assert not (store / "in_force.json").exists()
    assert not (store / "champion.json").exists()  # which model is in production is not known
    assert "which nobody approved" in proposal.run(store, "2", None)["body"]


def test_deleting_the_alias_does_not_bring_the_challenger_in(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, error = score(store, capsys)
    assert taken(error)  # nothing was ever approved: the challenger
    promote.run(store, "1", None, approver="Ada", note="")
    registry = mlflow_store.connect(store)
    for name in (mlflow_store.MODEL, mlflow_store.THRESHOLDS):
        registry.client.delete_registered_model_alias(name, "champion")
    code, error = score(store, capsys)
    assert code == 1
    assert "alias champion names nothing" in error


def test_a_champion_approved_by_tags_alone_is_recorded_by_the_named_command(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    in_mlflow(store, 1, 1, **{"upheld.approved_by": "Ada"})  # as stores from before the record are
    code, error = score(store, capsys)
    assert code == 1
    assert "is of nothing" in error
    command = error.split("`")[1].split()
    assert command[:2] == ["upheld", "promote"]
    assert promote.main([*command[2:], "--store", str(store)]) == 0
    assert json.loads((store / "approvals/000001.json").read_text())["approver"] == "NAME"
    capsys.readouterr()
    assert taken(score(store, capsys)[1])


def test_a_held_model_at_the_alias_is_still_held(store: Path) -> None:
    in_mlflow(store, 3, 3)
    with pytest.raises(BadUse, match="the gate holds upheld-moderation/3"):
        promote.run(store, "3", None, approver="Ada", note="")


@pytest.mark.parametrize("what", ["bundle", "thresholds"])
@pytest.mark.parametrize("chosen", [None, "1"])
def test_swapped_files_of_the_approved_version_are_refused_whatever_its_tags_say(
    store: Path, capsys: pytest.CaptureFixture[str], what: str, chosen: str | None
) -> None:
    promote.run(store, "1", None, approver="Ada", note="")
    registry = mlflow_store.connect(store)
    if what == "bundle":
        path = bundle_of(store, 1) / "pipeline.json"
        path.write_text('{"lock": "another"}')
        forged = {"upheld.bundle_sha256": hashing.of_folder(path.parent)}
    else:
        path = mlflow_store.thresholds_path(registry, mlflow_store.resolve(registry, mlflow_store.THRESHOLDS, "1"))
        path.write_text(json.dumps(thresholds_json(0.01)))
        forged = {"upheld.thresholds_sha256": hashing.of_file(path)}
    in_mlflow(store, 1, 1, **forged)
    code, error = score(store, capsys, *(["--model", chosen] if chosen else []))
    assert (code, len(error.splitlines())) == (1, 1)
    assert "is not what was registered" in error


def test_a_version_chosen_by_name_needs_no_approval_but_its_digest(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert taken(score(store, capsys, "--model", "2")[1])
    (bundle_of(store, 2) / "pipeline.json").write_text('{"lock": "another"}')
    assert "is not what was registered" in score(store, capsys, "--model", "2")[1]
    registry = mlflow_store.connect(store)
    registry.client.delete_model_version_tag(mlflow_store.MODEL, "2", "upheld.bundle_sha256")
    code, error = score(store, capsys, "--model", "2")
    assert code == 2
    assert "upheld-moderation/2: carries no digest (tag upheld.bundle_sha256)" in error
    registry.client.delete_model_version_tag(mlflow_store.THRESHOLDS, "1", "upheld.thresholds_sha256")
    assert "upheld-thresholds/1: carries no digest" in score(store, capsys, "--model", "1")[1]
    with pytest.raises(BadUse, match="carries no digest"):
        promote.run(store, "2", None, approver="Ada", note="")


LATE = {"despite_hold": "it is urgent", "instead_of": "model 1 with thresholds 1"}  # something else went into production since


@pytest.mark.parametrize(
    ("given", "action", "approver", "status"),
    [
        ({"answer": "reject", "by": "Ada", "note": "too early"}, "reject", "Ada", "rejected"),
        ({"answer": "timeout"}, "timeout", None, "no answer in time"),
        ({"answer": "approve", "by": "Ada"}, "refused", "Ada", "refused"),  # held, and no reason
        ({"answer": "approve", "by": "Ada", "despite_hold": "because"}, "refused", "Ada", "refused"),  # fewer than 10 characters
        ({"answer": "approve", "by": "Ada", **LATE}, "refused", "Ada", "refused"),
    ],
)
def test_an_answer_that_moves_nothing_is_recorded_and_shown(
    store: Path, capsys: pytest.CaptureFixture[str], given: dict[str, str], action: str, approver: str | None, status: str
) -> None:
    told = answer.run(store, **{"model": "3", "thresholds": "3", "instead_of": "nothing", "by": "", "note": "", "despite_hold": ""} | given)
    assert told["status"] == status
    (record,) = records(store)
    assert (record["action"], record["approver"], record["gate"]) == (action, approver, "hold")
    assert record["after"] == {"model": 3, "thresholds": 3}
    assert record["bundle_sha256"] == hashing.of_folder(bundle_of(store, 3))
    assert mlflow_store.by_alias(mlflow_store.connect(store), mlflow_store.MODEL, "champion") is None
    body = proposal.run(store, "2", None)["body"]
    assert approval_log.ANSWERS[record["action"]] in body.partition("## The last answers")[2]
    assert approval_log.main(["--store", str(store), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [record]


def test_a_yes_with_a_reason_is_carried_out(store: Path) -> None:
    told = answer.run(store, "approve", "3", "3", "nothing", "Ada", "", "the old one is down")
    assert told == {"status": "promoted", "why": ""}
    again = answer.run(store, "approve", "3", "3", "nothing", "Bo", "", "the old one is down")
    assert again["status"] == "refused"
    assert "in production already" in again["why"]
    assert [(item["action"], item["approver"]) for item in records(store)] == [("promote", "Ada"), ("refused", "Bo")]


def test_the_table_is_whole_at_80_columns_newest_first_and_carries_no_control_characters(
    store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert approval_log.main(["--store", str(store)]) == 0
    assert "no answer yet" in capsys.readouterr().out
    promote.run(store, "1", None, approver="Ada", note="")
    answer.run(
        store, "reject", "2", "2", "model 1 with thresholds 1", "Bartholomew Featherstonehaugh", "no \x1b[31m" + "wordsofnote " * 20, ""
    )
    monkeypatch.setenv("COLUMNS", "80")
    assert approval_log.main(["--store", str(store)]) == 0
    out = capsys.readouterr().out
    assert max(len(line) for line in out.splitlines()) <= 80
    assert "\x1b" not in out
    assert "…" not in out  # Rich's sign for what it cut off
    columns = list(
        zip(*([cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")), strict=True)
    )
    answers, asked, by, why = (" ".join(" ".join(columns[number]).split()) for number in (1, 2, 4, 5))
    assert (answers, asked) == ("rejected approved", "model 2 with thresholds 2 model 1 with thresholds 1")
    assert by.replace(" ", "") == "BartholomewFeatherstonehaughAda"
    assert why.replace(" ", "") == "no\\u001b[31m" + "wordsofnote" * 20


def test_a_new_models_volumes_are_counted_under_both(store: Path) -> None:
    """Before: the champion's scores of the new model's test window, kept in its workspace; after: the new model's own evaluation."""
    promote.run(store, "1", None, approver="Ada", note="")  # reviews from 0.4
    shown = proposal.run(store, "2", None)["body"].partition("## Posts, before → after")[2].partition("\n## ")[0]
    assert "Before: not known; the scores of the model in production on the same posts are not kept in this store." in shown
    assert "After: not known; the evaluation counted no posts." in shown
    registry = mlflow_store.connect(store)
    run_id = mlflow_store.resolve(registry, mlflow_store.MODEL, "2").run_id
    kept = mlflow_store.run_artifact(registry, run_id, "evaluation/metrics.parquet")
    cells = [("rows", 10.0), ("auto_remove_share", 0.1), ("queue_share", 0.5)]
    counted = pd.DataFrame(cells, columns=["metric", "value"]).assign(category="spam", language="all", group_column="all")
    pd.concat([pd.read_parquet(kept), counted]).to_parquet(kept)
    scores = [0.95, 0.91, 0.9, 0.5, *[0.1] * 6, 0.99]
    rows = pd.DataFrame(
        {"item_id": [str(n) for n in range(11)], "category": "spam", "language": "en", "score": scores, "split": ["test"] * 10 + ["calib"]}
    )
    rows.to_parquet(store / "runs/run-2/data/champion_scores.parquet")
    shown = proposal.run(store, "2", None)["body"].partition("## Posts, before → after")[2].partition("\n## ")[0]
    assert "| spam | 0 → 1 | 4 → 5 | 6 → 4 |" in shown  # thresholds that speak of no language remove in none, and queue instead
    assert "not known" not in shown
    (store / "runs/run-2/data/champion_scores.parquet").unlink()


def test_volumes_before_are_the_champions_own_where_it_was_evaluated_on_the_same_posts(store: Path) -> None:
    promote.run(store, "1", None, approver="Ada", note="")
    registry = mlflow_store.connect(store)
    for number, queued in (("1", 0.5), ("2", 0.3)):
        count_posts(store, number, 10.0, queued)
    assert "| spam | 1 → 1 | 5 → 3 | 4 → 6 |" in proposal.run(store, "2", None)["body"]
    registry.client.set_model_version_tag(mlflow_store.MODEL, "1", "upheld.snapshot_sha256", "another")
    assert "| spam | ? → 1 | ? → 3 | ? → 6 |" in proposal.run(store, "2", None)["body"]


def test_before_our_first_model_volumes_are_those_of_the_decisions(store: Path) -> None:
    """Of the posts that the evaluation counted in the category: one has an appeal's label in it, which is evidence of nothing."""
    folder = store / "runs/run-2/data"
    names = [f"p{n}" for n in range(7)]
    rows = pd.DataFrame({"item_id": names[:6], "category": "spam", "split": ["test"] * 5 + ["calib"]})
    rows.to_parquet(folder / "scores.parquet")
    actions = ["auto_remove", "review", "review", "none", "none", "auto_remove", "review"]
    decided = pd.DataFrame({"post_id": names, "category": "spam", "score": 0.5, "action": actions, "model_version": "old <b>-1"})
    decided.to_parquet(folder / "snapshot/served.parquet")
    shown = proposal.run(store, "2", None)["body"].partition("## Posts, before → after")[2].partition("\n## ")[0]
    assert "| spam | 1 → ? | 2 → ? | 2 → ? |" in shown
    assert "what was decided on these posts when they came, by old" in shown
    assert "<b>" not in shown
    count_posts(store, "2", 10.0)
    shown = proposal.run(store, "2", None)["body"]
    assert "| spam | ? → 1 | ? → 3 | ? → 6 |" in shown
    assert "not all of these posts have a decision in this store" in shown
    for name in ("scores.parquet", "snapshot/served.parquet"):
        (folder / name).unlink()


def count_posts(store: Path, number: str, rows: float, queued: float = 0.3) -> None:
    """As the stage evaluate counts posts of spam, a tenth of them removed."""
    registry = mlflow_store.connect(store)
    kept = mlflow_store.run_artifact(
        registry, mlflow_store.resolve(registry, mlflow_store.MODEL, number).run_id, "evaluation/metrics.parquet"
    )
    cells = [("rows", rows), ("auto_remove_share", 0.1), ("queue_share", queued)]
    counted = pd.DataFrame(cells, columns=["metric", "value"]).assign(category="spam", language="all", group_column="all")
    pd.concat([pd.read_parquet(kept), counted]).to_parquet(kept)


def test_nothing_in_production_is_said_in_words(store: Path) -> None:
    assert "Before: not known; none of our models is in production" in proposal.run(store, "2", None)["body"]


def test_the_module_of_thresholds_reads_checked_files(store: Path, tmp_path: Path) -> None:
    registry = mlflow_store.connect(store)
    born = mlflow_store.thresholds_path(registry, mlflow_store.resolve(registry, mlflow_store.THRESHOLDS, "1"))
    born.write_text(json.dumps(thresholds_json(0.01)))
    (tmp_path / "new.json").write_text(json.dumps(thresholds_json(0.95)))
    for name in ("report.html", "report.md"):
        (tmp_path / name).write_text("x")
    with pytest.raises(FailedWork, match="is not what was registered"):
        thresholds.run(tmp_path / "new.json", "1", tmp_path, "by hand", store)
