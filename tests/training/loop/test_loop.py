"""The loop: a recorded loss sequence, equal runs, runs that were killed, and which epoch is kept."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from upheld.common import curves, progress
from upheld.common.errors import FailedWork
from upheld.common.params.training import Training
from upheld.training.loop import batches
from upheld.training.loop.batches import epoch_batches
from upheld.training.loop.classifier import Objective, batches_of
from upheld.training.loop.examples import Examples
from upheld.training.loop.loop import SETTLED_EVERY, fit, load_checkpoint
from upheld.training.loop.losses import masked_loss, validation_figures

DROPOUT = 0.1
GOLDEN = Path(__file__).parents[1] / "golden"
SETTINGS: dict[str, Any] = {
    "batch_size": 8, "micro_batch_cost": 1000, "epochs": 3, "patience": 3, "learning_rate": 0.01, "head_learning_rate": 0.02,
    "layer_decay": 0.9, "weight_decay": 0.01, "warmup_share": 0.1, "dropout": 0.1, "class_weight": "none",
    "category_balance": 0.0, "focal_gamma": 0.0, "checkpoint_steps": 4,
}  # fmt: skip


def settings(**changes: Any) -> Training:
    return Training(**{**SETTINGS, **changes})


def examples(tiny: ModuleType, model: nn.Module, num_rows: int = 60) -> Examples:
    """Rows whose first word decides, labels known for two thirds of the cells."""
    random = np.random.default_rng(11)
    words = random.integers(2, 9, (num_rows, 4))
    token_ids = [row[: random.integers(2, 5)] for row in words]
    targets = np.stack([words[:, 0] >= 7, words[:, 0] <= 4], axis=1).astype(np.float32)
    weights = (random.random(targets.shape) < 0.67).astype(np.float32)
    costs = np.array([len(ids) for ids in token_ids])
    names = [f"p{row}" for row in range(num_rows)]
    return Examples(names, targets, weights, costs, lambda rows, seed: model.collate([token_ids[row] for row in rows]))


def plain_loss(logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return masked_loss(logits, targets, weights, torch.ones(2), 0.0)


def train(
    tiny: ModuleType,
    checkpoint: Path,
    crash_at: int | None = None,
    objective: Objective = plain_loss,
    told: Path | None = None,
    **changes: Any,
) -> tuple[nn.Module, Any]:
    model = tiny.text_model()
    model.dropout.p = DROPOUT
    rows = examples(tiny, model)
    calls = 0

    def inputs(chosen: Any, seed: int) -> dict[str, torch.Tensor]:
        nonlocal calls
        calls += 1
        if calls == crash_at:
            raise KeyboardInterrupt
        return rows.inputs(chosen, seed)

    def evaluate() -> dict[str, Any]:
        with torch.inference_mode():
            probs = torch.sigmoid(model.eval()(**rows.inputs(np.arange(60), 0))).numpy()
        return validation_figures(probs, rows.targets, rows.weights, tiny.POLICIES)

    watched = replace(rows, inputs=inputs)
    return model, fit(
        model,
        batches_of(watched, objective),
        evaluate,
        settings(**changes),
        5,
        checkpoint,
        use_bfloat16=False,
        lane="deterministic",
        curves=told,
    )


def weights_of(model: nn.Module) -> dict[str, list[float]]:
    return {name: tensor.flatten().tolist() for name, tensor in model.state_dict().items()}


def test_losses_are_those_recorded(tiny: ModuleType, tmp_path: Path) -> None:
    """Record anew only when the maths is meant to change: write `seen` to the file named here."""
    seen = []

    def watched(*arguments: torch.Tensor) -> torch.Tensor:
        seen.append(plain_loss(*arguments))
        return seen[-1]

    train(tiny, tmp_path / "progress", objective=watched)
    assert [loss.item() for loss in seen] == pytest.approx(json.loads((GOLDEN / "loop_losses.json").read_text()), abs=1e-5)


def test_same_seed_same_weights(tiny: ModuleType, tmp_path: Path) -> None:
    first, second = (train(tiny, tmp_path / name)[0] for name in ("a", "b"))
    assert weights_of(first) == weights_of(second)


@pytest.mark.parametrize("crash_at", [3, 7, 16, 18])  # before the first checkpoint, within, at and after an epoch's end (8 batches)
def test_an_interrupted_run_ends_with_the_same_weights(tiny: ModuleType, tmp_path: Path, crash_at: int) -> None:
    whole, record = train(tiny, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tiny, tmp_path / "part", crash_at=crash_at)
    resumed, record_resumed = train(tiny, tmp_path / "part")
    assert weights_of(resumed) == weights_of(whole)
    assert record_resumed.history == record.history


def test_a_run_that_was_killed_while_it_was_scored_scores_that_epoch(
    tiny: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, record = train(tiny, tmp_path / "whole")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sys.modules[__name__], "validation_figures", killed)
        with pytest.raises(KeyboardInterrupt):  # after 8 batches, of which every fourth saves
            train(tiny, tmp_path / "part")
    resumed, record_resumed = train(tiny, tmp_path / "part")
    assert record_resumed.history == record.history
    assert weights_of(resumed) == weights_of(whole)


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without dropout, of which each part of a batch has its own."""
    monkeypatch.setattr(sys.modules[__name__], "DROPOUT", 0.0)
    monkeypatch.setitem(SETTINGS, "dropout", 0.0)


@pytest.mark.usefixtures("still")
def test_a_batch_in_parts_has_the_gradient_of_the_whole(tiny: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_text, calls = tiny.text_model, []

    def without_dropout() -> nn.Module:
        model = tiny_text()
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        model.register_forward_pre_hook(
            lambda _, __, inputs: calls.append(len(inputs["input_ids"])) if torch.is_grad_enabled() else None, with_kwargs=True
        )
        return model

    monkeypatch.setattr(tiny, "text_model", without_dropout)
    whole, record = train(tiny, tmp_path / "whole")
    assert set(calls) == {8, 4}  # of 60 rows
    calls.clear()
    parted, record_parted = train(tiny, tmp_path / "parted", micro_batch_cost=20)
    assert max(calls) <= 20 // 2
    assert sum(calls) == 180
    assert len(calls) > 24
    assert [figures["train_loss"] for figures in record_parted.history] == pytest.approx(
        [figures["train_loss"] for figures in record.history], abs=1e-5
    )
    for name, values in weights_of(whole).items():
        if not name.endswith("key.bias"):  # its gradient is rounding alone, which Adam magnifies
            assert weights_of(parted)[name] == pytest.approx(values, abs=1e-4), name


def test_processes_that_make_batches_change_nothing(tiny: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, record = train(tiny, tmp_path / "here")
    pids = []

    def watched(*arguments: torch.Tensor) -> torch.Tensor:
        pids.append(os.getpid())
        return plain_loss(*arguments)

    monkeypatch.setattr(batches, "num_workers", lambda device: 2)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})  # else torch warns of too many
    elsewhere, record_elsewhere = train(tiny, tmp_path / "elsewhere", crash_at=None, objective=watched)
    assert set(pids) == {os.getpid()}
    assert weights_of(elsewhere) == weights_of(here)
    assert record_elsewhere.history == record.history


def test_a_gpu_has_its_batches_made_by_other_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)))
    assert (batches.num_workers(torch.device("cuda")), batches.num_workers(torch.device("cpu"))) == (8, 0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    assert batches.num_workers(torch.device("cuda")) == 0


@pytest.mark.parametrize("look_every", [1, 16])
@pytest.mark.parametrize("fault", ["loss", "gradient"])
def test_divergence_names_the_batch_and_keeps_what_was_good(
    tiny: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, look_every: int
) -> None:
    monkeypatch.setitem(SETTLED_EVERY, "cpu", look_every)
    losses = []

    def diverging(*arguments: torch.Tensor) -> torch.Tensor:
        losses.append(plain_loss(*arguments))
        if len(losses) != 11:
            return losses[-1]
        return losses[-1] * float("nan") if fault == "loss" else losses[-1] + torch.sqrt(arguments[0].sum() * 0)  # sqrt'(0) is infinite

    with pytest.raises(FailedWork, match="diverged at step 11: loss") as error:
        train(tiny, tmp_path / "progress", objective=diverging)
    rows = epoch_batches(examples(tiny, tiny.text_model()).costs, 8, 5, epoch=1)[2]
    assert str(error.value).split(", on ")[1].split("; ")[0] == ", ".join(f"p{row}" for row in rows)
    state, best = load_checkpoint(tmp_path / "progress", model := tiny.text_model(), torch.optim.AdamW(model.parameters()))
    assert state.step == 8
    assert all(torch.isfinite(tensor).all() for tensor in best.values())


@pytest.mark.parametrize("look_every", [1, 5, 16])
def test_losses_do_not_depend_on_when_they_are_looked_at(
    tiny: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, look_every: int
) -> None:
    monkeypatch.setitem(SETTLED_EVERY, "cpu", look_every)
    seen = []

    def watched(*arguments: torch.Tensor) -> torch.Tensor:
        seen.append(plain_loss(*arguments))
        return seen[-1]

    _, record = train(tiny, tmp_path / "progress", objective=watched)
    weight = float(examples(tiny, tiny.text_model()).weights.sum())
    told = [figures["train_loss"] for figures in record.history]
    assert told == pytest.approx([sum(loss.item() for loss in seen[8 * epoch : 8 * epoch + 8]) / weight for epoch in range(3)], rel=1e-6)


def test_training_learns_and_keeps_its_best_epoch(tiny: ModuleType, tmp_path: Path) -> None:
    _, record = train(tiny, tmp_path / "progress", epochs=8)
    scores = [figures["score"] for figures in record.history]
    assert max(scores) > 0.95
    assert record.best_epoch == record.history[int(np.argmax(scores))]["epoch"]


def test_a_log_tells_epoch_and_batch(
    tiny: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def slow(*arguments: torch.Tensor) -> torch.Tensor:
        time.sleep(0.02)
        return plain_loss(*arguments)

    monkeypatch.setattr(progress, "EVERY_S", 0.02)
    train(tiny, tmp_path / "progress", objective=slow)
    lines = capsys.readouterr().err.splitlines()
    told = [match.groups() for line in lines if (match := re.fullmatch(r"epoch (\d) of 3: (\d+) of 24 batches after 0:\d\d min", line))]
    batches = [int(batch) for _, batch in told]
    assert batches == sorted(batches)
    assert len(set(batches)) > 5
    assert all(8 * (int(epoch) - 1) <= int(batch) <= 8 * int(epoch) for epoch, batch in told)
    epochs = [line for line in lines if line.startswith("epoch ") and "samples/s" in line]
    assert [line[:19] for line in epochs] == [f"epoch {epoch}: train loss" for epoch in (1, 2, 3)]
    assert len(lines) == len(told) + len(epochs)


def read_curves(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Lines about batches, and about epochs."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [line for line in lines if "figures" in line], [line for line in lines if "epoch" in line]


@pytest.mark.parametrize("look_every", [1, 5])
def test_curves_tell_loss_rate_and_gradient_of_the_batches_since_the_last_line(
    tiny: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, look_every: int
) -> None:
    monkeypatch.setitem(SETTLED_EVERY, "cpu", look_every)
    monkeypatch.setattr(curves, "EVERY_S", 0.0)
    monkeypatch.setattr(curves, "MOST_PER_AGE", 10**9)
    seen, norms, clip = [], [], nn.utils.clip_grad_norm_

    def watched(*arguments: torch.Tensor) -> torch.Tensor:
        seen.append((plain_loss(*arguments).item(), arguments[2].sum().item()))
        return plain_loss(*arguments)

    def clipped(*arguments: Any) -> torch.Tensor:
        norms.append(clip(*arguments))
        return norms[-1]

    monkeypatch.setattr(nn.utils, "clip_grad_norm_", clipped)
    _, record = train(tiny, tmp_path / "progress", objective=watched, told=tmp_path / "text.jsonl", checkpoint_steps=100)
    steps, epochs = read_curves(tmp_path / "text.jsonl")
    ends = [8 * epoch + min(end, 8) for epoch in range(3) for end in range(look_every, 8 + look_every, look_every)]
    assert [line["step"] for line in steps] == ends
    begin = 0
    for line in steps:
        figures = line["figures"]
        losses, weights = zip(*seen[begin : line["step"]], strict=True)
        assert figures["loss"] == pytest.approx(sum(losses) / sum(weights), rel=1e-4)
        # The schedule of 24 steps, of which 2 warm up, as optimizer.set_progress has it before the step that was done last.
        done = line["step"] - 1
        assert figures["learning_rate"] == pytest.approx(0.02 * min(1, (done + 1) / 2, (24 - done) / 22))
        assert figures["epoch"] == line["step"] / 8
        assert figures["gradient_norm"] == pytest.approx(torch.stack(norms[begin : line["step"]]).mean().item())
        assert figures["samples_per_s"] > 0 and 10 < figures["peak_memory_mb"] < 1e5
        assert abs(line["time"] - time.time() * 1000) < 120_000
        begin = line["step"]
    assert [line["epoch"] for line in epochs] == record.history
    assert [line["step"] for line in epochs] == [8, 16, 24]


def test_curves_are_written_now_and_then_and_at_the_end_of_an_epoch(tiny: ModuleType, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curves, "EVERY_S", 1e9)
        _, record = train(tiny, tmp_path / "progress", told=tmp_path / "text.jsonl")
    steps, _ = read_curves(tmp_path / "text.jsonl")
    assert [line["step"] for line in steps] == [8, 16, 24]
    assert [line["figures"]["loss"] for line in steps] == pytest.approx([figures["train_loss"] for figures in record.history])


def test_curves_change_nothing_in_what_is_trained(tiny: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves, "EVERY_S", 0.0)
    (tmp_path / "file").touch()
    results = [
        train(tiny, tmp_path / name, told=told) for name, told in (("a", None), ("b", tmp_path / "x"), ("c", tmp_path / "file" / "x"))
    ]
    assert (tmp_path / "x").exists()
    first, record = results[0]
    for model, other in results[1:]:  # the last could not write its curves
        assert weights_of(model) == weights_of(first)
        assert other.history == record.history


@pytest.mark.parametrize("crash_at", [3, 7, 16, 18])
def test_a_run_that_goes_on_cuts_what_it_will_do_again(
    tiny: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crash_at: int
) -> None:
    monkeypatch.setattr(curves, "EVERY_S", 0.0)
    monkeypatch.setattr(curves, "MOST_PER_AGE", 10**9)
    train(tiny, tmp_path / "whole", told=tmp_path / "whole.jsonl")
    with pytest.raises(KeyboardInterrupt):
        train(tiny, tmp_path / "part", crash_at=crash_at, told=tmp_path / "part.jsonl")
    with (tmp_path / "part.jsonl").open("a") as file:
        file.write('{"time": 1, "step": 2, "figu')  # where it was killed
    train(tiny, tmp_path / "part", told=tmp_path / "part.jsonl")
    whole, part = (read_curves(tmp_path / name) for name in ("whole.jsonl", "part.jsonl"))
    assert [line["step"] for line in part[0]] == list(range(1, 25))
    for one, other in zip(part[0], whole[0], strict=True):
        assert [one["figures"][name] for name in ("loss", "gradient_norm", "learning_rate")] == pytest.approx(
            [other["figures"][name] for name in ("loss", "gradient_norm", "learning_rate")]
        )
    assert [line["epoch"] for line in part[1]] == [line["epoch"] for line in whole[1]]


def test_training_stops_when_nothing_improves(tiny: ModuleType, tmp_path: Path) -> None:
    model = tiny.text_model()
    rows = examples(tiny, model)
    scores = iter([0.6, 0.7, 0.7, 0.65, 0.9])
    seen = []

    def evaluate() -> dict[str, Any]:
        seen.append(weights_of(model))
        return {"score": next(scores), "loss": None, "roc_auc": {}}

    record = fit(
        model,
        batches_of(rows, plain_loss),
        evaluate,
        settings(epochs=9, patience=2),
        5,
        tmp_path / "progress",
        use_bfloat16=False,
        lane="deterministic",
        score_start=True,
    )
    assert [figures["epoch"] for figures in record.history] == [0, 1, 2, 3]
    assert record.best_epoch == 1
    assert weights_of(model) == seen[1]


@pytest.mark.slow
def test_a_killed_process_leaves_what_another_needs(tiny: ModuleType, tmp_path: Path) -> None:
    """SIGKILL in the middle of a step, twice; the third run finishes."""
    script = f"""
import os, signal, sys
sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(Path(__file__).parents[1])!r}]
import conftest, test_loop
from pathlib import Path
import upheld.training.loop.loop as loop
step, count = loop._step, 0
def counted(*arguments):
    global count
    count += 1
    if count == int(sys.argv[1]): os.kill(os.getpid(), signal.SIGKILL)
    step(*arguments)
loop._step = counted
model, record = test_loop.train(conftest, Path(sys.argv[2]))
import json
print(json.dumps(test_loop.weights_of(model)))
"""
    outputs = []
    for kill_at, name in ((7, "part"), (7, "part"), (99, "part"), (99, "whole")):
        command = [sys.executable, "-c", script, str(kill_at), str(tmp_path / name)]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        outputs.append(done)
    assert [done.returncode for done in outputs] == [-signal.SIGKILL, -signal.SIGKILL, 0, 0]
    assert json.loads(outputs[2].stdout) == json.loads(outputs[3].stdout)


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path: Path) -> None:
    """The gradient is the whole batch's, of an epoch's last, smaller batch too. Dropout is off: each process draws its own."""
    script = tmp_path / "train.py"
    script.write_text(f"""
import json, os, sys
sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(Path(__file__).parents[1])!r}]
import conftest, test_loop
from pathlib import Path
original = conftest.text_model
def still():
    model = original()
    for module in model.modules():
        if isinstance(module, test_loop.nn.Dropout):
            module.p = 0.0
    return model
conftest.text_model = still
test_loop.DROPOUT = 0.0
model, record = test_loop.train(conftest, Path(sys.argv[1]) / "progress")
if os.environ.get("RANK", "0") == "0":
    (Path(sys.argv[1]) / "weights.json").write_text(json.dumps(test_loop.weights_of(model)))
""")
    weights = []
    for launcher in ([], ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]):
        folder = tmp_path / str(len(launcher))
        folder.mkdir()
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
        subprocess.run([sys.executable, *launcher, str(script), str(folder)], check=True, env=environment)
        weights.append(json.loads((folder / "weights.json").read_text()))
    for name, values in weights[0].items():
        if not name.endswith("key.bias"):  # it moves all of a query's scores alike, so its gradient is rounding alone, which Adam magnifies
            assert weights[1][name] == pytest.approx(values, abs=1e-4), name
