"""The runner on the toy graph: what it says it did, what it refuses, and what a crash leaves."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from upheld.dags.runner import process, run_stage
from upheld.dags.runner.workspace import Refused

STAGES = ("copy", "double", "total")


@pytest.fixture(scope="module")
def ran(make_toy: Callable[[Path], Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A toy in whose run `one` every stage has been executed; tests add runs of their own."""
    toy = make_toy(tmp_path_factory.mktemp("ran") / "store")
    assert toy.prepare("one")[0] == 0
    assert [toy.stage(name, "one")[1]["status"] for name in STAGES] == ["executed"] * 3
    return toy


def test_a_stage_is_executed_then_unchanged_and_elsewhere_restored(ran: Any) -> None:
    assert json.loads((ran.workspace("one") / "data/total.json").read_text()) == 2 * (1 + 2 + 3) + 6 * _seed(ran.workspace("one"))
    assert ran.stage("copy", "one")[1]["status"] == "unchanged"
    assert ran.stage("copy", "one", "--force")[1]["status"] == "executed"
    shutil.rmtree(ran.workspace("one") / "data/copied")
    assert ran.stage("copy", "one")[1]["status"] == "restored"  # the same entry in the lock, yet its out had gone
    ran.prepare("two")
    assert [ran.stage(name, "two")[1]["status"] for name in STAGES] == ["restored"] * 3
    assert _outs(ran.workspace("one")) == _outs(ran.workspace("two"))
    lock = ran.workspace("two") / "dvc.lock"
    content = yaml.safe_load(lock.read_text())
    lock.write_text(yaml.safe_dump(content | {"stages": dict(reversed(content["stages"].items()))}, sort_keys=False))
    answers = [ran.runner("register", "--workspace", str(ran.workspace(run)))[1] for run in ("one", "two")]
    assert answers[0]["lock"] == answers[1]["lock"]  # whichever stage ended first


def test_a_stage_keeps_what_it_compiles_and_runs_what_was_changed_since(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    said: list[str] = []
    for word in ("first", "second"):
        (tmp_path / "ours.py").write_text(f"print({word!r})")
        assert process.stream([process.interpreter(), "-c", "import ours"], tmp_path, tmp_path / "store", said.append) == 0
    assert said == ["first", "second"]
    assert len(list(tmp_path.glob("__pycache__/ours.*.pyc"))) == 1


def test_a_lock_alone_brings_back_what_was_made(ran: Any, tmp_path: Path) -> None:
    ran.runner("register", "--workspace", str(ran.workspace("one")))  # pushes
    for name in ("dvc.lock", "dvc.yaml", ".dvc/config"):
        (tmp_path / "empty" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ran.workspace("one") / name, tmp_path / "empty" / name)
    remote = f"[core]\n    no_scm = true\n[cache]\n    dir = {tmp_path}/cache\n['remote \"store\"']\n    url = {ran.store}/dvc-cache\n"
    (tmp_path / "empty/.dvc/config.local").write_text(remote)
    subprocess.run([sys.executable, "-m", "dvc", "pull", "copy"], cwd=tmp_path / "empty", check=True, capture_output=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "empty/data/copied").iterdir()} == {
        path.name: path.read_bytes() for path in (ran.workspace("one") / "data/copied").iterdir()
    }


def test_what_a_changed_param_reaches_runs_again(ran: Any) -> None:
    code, _ = ran.prepare("changed", {"seed": 5})
    assert code == 0
    assert [ran.stage(name, "changed")[1]["status"] for name in STAGES] == ["executed"] * 3
    assert _seed(ran.workspace("changed")) == 5
    assert _seed(ran.root) != 5


@pytest.mark.parametrize(("key", "value"), [("seed", "many"), ("seed", -1), ("no.such", 1), ("policies", "spam")])
def test_a_wrong_param_is_bad_use_and_leaves_nothing(toy: Any, key: str, value: object) -> None:
    code, result = toy.prepare("one", {key: value})
    assert code == 2
    assert key.split(".", maxsplit=1)[0] in result["error"]
    assert list((toy.store / "runs").iterdir()) == []
    refused = json.loads((toy.store / "refused" / "one.json").read_text())
    assert refused == {"task": "prepare", "message": result["error"], "exit_code": 2}


def test_null_is_the_empty_text_where_the_repository_has_one(toy: Any) -> None:
    own = yaml.safe_load((toy.root / "params.yaml").read_text())
    assert (own["caption"]["model"], own["action"]["pretrained"]) == ("", "")
    code, result = toy.prepare("one", {"caption.model": None, "action.pretrained": None, "features.location": None})
    assert code == 0, result
    assert yaml.safe_load((toy.workspace("one") / "params.yaml").read_text()) == own
    code, result = toy.prepare("two", {"text.prefix": None})
    assert code == 2
    assert "text.prefix" in result["error"]


def test_pinning_refused_names_its_reason_and_a_second_try_goes_on(toy: Any) -> None:
    (toy.store / "values.json").rename(toy.store / "later.json")
    code, result = toy.prepare("one")
    assert (code, result["error"]) == (1, "pin: the ledger holds nothing yet")
    (toy.store / "later.json").rename(toy.store / "values.json")
    assert toy.prepare("one")[0] == 0


def test_a_failing_stage_says_its_own_last_words(toy: Any) -> None:
    (toy.store / "fail").touch()
    toy.prepare("one")
    toy.stage("copy", "one")
    code, result = toy.stage("double", "one")
    assert code == 1
    assert result == {"status": "failed", "error": "double: double: told to fail, key toy (exit code 1)"}
    assert "told to fail" in (toy.workspace("one") / "logs/double.log").read_text()
    failure = toy.workspace("one") / "failure.json"
    assert json.loads(failure.read_text()) == {"task": "double", "message": result["error"], "exit_code": 1}
    (toy.store / "fail").unlink()
    assert toy.stage("double", "one")[0] == 0
    assert not failure.exists()


def test_a_rerun_takes_inputs_and_params_of_the_earlier_run(toy: Any) -> None:
    toy.prepare("one", {"seed": 7})
    toy.values(9)
    assert toy.prepare("two", rerun_of="one")[0] == 0
    assert json.loads((toy.workspace("two") / "data/inputs.json").read_text()) == {"values": [1, 2, 3]}
    assert (toy.store / "extractions").read_text() == "extracted\n"  # what is pinned already needs nothing new
    assert _seed(toy.workspace("two")) == 7
    code, result = toy.prepare("three", rerun_of="none")
    assert (code, result["error"]) == (2, "there is no run none; `upheld runs` lists them")


def test_killing_the_runner_kills_the_trainer_and_the_next_try_ends_as_if_nothing_had_been(toy: Any) -> None:
    (toy.store / "hang").touch()
    toy.prepare("one")
    toy.stage("copy", "one")
    arguments = ["--workspace", str(toy.workspace("one")), "--store", str(toy.store), "--result", str(toy.store / "none.json")]
    with toy.start("upheld.dags.runner.run_stage", "stage", "double", *arguments) as runner:
        _wait_for((toy.store / "pid").exists)
        trainer = int((toy.store / "pid").read_text())
        runner.send_signal(signal.SIGKILL)
        runner.wait()
    _wait_for(lambda: not _lives(trainer))
    assert not (toy.store / "none.json").exists()
    (toy.store / "hang").unlink()
    code, result = toy.stage("double", "one")
    assert (code, result["status"]) == (0, "executed"), result
    seed = _seed(toy.workspace("one"))
    assert json.loads((toy.workspace("one") / "data/doubled.json").read_text()) == [2 * (value + seed) for value in (1, 2, 3)]


def test_a_killed_trainer_may_be_tried_again(toy: Any) -> None:
    (toy.store / "hang").touch()
    toy.prepare("one")
    toy.stage("copy", "one")
    arguments = ["--workspace", str(toy.workspace("one")), "--store", str(toy.store), "--result", str(toy.store / "r.json")]
    with toy.start("upheld.dags.runner.run_stage", "stage", "double", *arguments) as runner:
        _wait_for((toy.store / "pid").exists)
        os.kill(int((toy.store / "pid").read_text()), signal.SIGKILL)
        runner.communicate()
    assert runner.returncode == run_stage.KILLED


def test_mlflow_is_told_of_the_beginning_of_a_failure_and_of_another_try(toy: Any) -> None:
    (toy.store / "fail").touch()
    code, result = toy.runner("prepare", "--root", str(toy.root), "--run-id", "one")
    assert (code, result["page"]) == (0, "http://127.0.0.1:5000/#/experiments/1/runs/one")
    told = toy.workspace("one") / "told"
    assert toy.prepare("one")[0] == 0  # again, as after a machine that went down
    assert told.read_text().split("\n") == ["go on", "go on", ""]
    toy.stage("copy", "one")
    assert toy.stage("double", "one")[0] == 1
    assert told.read_text().split("\n") == ["go on", "go on", "failed", ""]
    (toy.store / "fail").unlink()
    assert toy.stage("double", "one")[0] == 0
    assert toy.stage("total", "one")[0] == 0
    assert told.read_text().split("\n") == ["go on", "go on", "failed", "go on", ""]


def test_where_mlflow_is_away_a_line_says_so_and_everything_goes_on(toy: Any) -> None:
    (toy.store / "no_mlflow").touch()
    (toy.store / "fail").touch()
    arguments = ["--root", str(toy.root), "--run-id", "one", "--store", str(toy.store), "--result", str(toy.store / "answer.json")]
    done = toy.call("upheld.dags.runner.run_stage", "prepare", *arguments)
    assert (done.returncode, done.stdout.splitlines()) == (0, ["live: MLflow is away"])
    assert json.loads((toy.store / "answer.json").read_text())["page"] is None
    assert toy.prepare("one")[0] == 0
    assert toy.stage("copy", "one")[1]["status"] == "executed"
    assert toy.stage("double", "one") == (1, {"status": "failed", "error": "double: double: told to fail, key toy (exit code 1)"})


def test_a_stage_that_trains_is_followed_to_its_end_and_no_other(toy: Any) -> None:
    toy.prepare("one")
    assert [toy.stage(name, "one")[0] for name in STAGES] == [0, 0, 0]
    followed = {path.name: path.read_text() for path in toy.workspace("one").glob("followed-*")}
    assert followed == {"followed-copy": "told to end", "followed-double": "told to end"}
    assert (toy.workspace("one") / "logs" / "double.jsonl").read_text() == "a curve\n"


@pytest.mark.slow
def test_a_follower_that_does_not_end_is_killed(toy: Any) -> None:
    (toy.store / "deaf").touch()
    toy.prepare("one")
    assert toy.stage("copy", "one")[1]["status"] == "executed"
    assert not _lives(int((toy.workspace("one") / "followed-copy").read_text()))


@pytest.mark.slow
def test_a_follower_dies_with_the_runner(toy: Any) -> None:
    (toy.store / "hang").touch()
    (toy.store / "deaf").touch()
    toy.prepare("one")
    toy.stage("copy", "one")
    arguments = ["--workspace", str(toy.workspace("one")), "--store", str(toy.store), "--result", str(toy.store / "none.json")]
    with toy.start("upheld.dags.runner.run_stage", "stage", "double", *arguments) as runner:
        _wait_for((toy.store / "pid").exists)
        follower = int((toy.workspace("one") / "followed-double").read_text())
        assert _lives(follower)
        runner.send_signal(signal.SIGKILL)
        runner.wait()
    _wait_for(lambda: not _lives(follower))


def test_what_a_stage_read_must_be_what_was_written() -> None:
    lock = {
        "a": {"outs": [{"path": "x", "md5": "old"}]},
        "b": {"deps": [{"path": "x", "md5": "new"}, {"path": "code.py", "md5": "c"}], "outs": []},
    }
    with pytest.raises(Refused, match="b: read x as new, but a wrote old; run again --from a"):
        run_stage.check_handoff("b", {"x": "a"}, lock)
    lock["a"]["outs"][0]["md5"] = "new"
    run_stage.check_handoff("b", {"x": "a"}, lock)


def _seed(folder: Path) -> int:
    return yaml.safe_load((folder / "params.yaml").read_text())["seed"]


def _outs(workspace: Path) -> dict[str, str]:
    stages = yaml.safe_load((workspace / "dvc.lock").read_text())["stages"]
    return {out["path"]: out["md5"] for stage in stages.values() for out in stage["outs"]}


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _wait_for(happened: Callable[[], bool], timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
