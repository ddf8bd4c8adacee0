"""The one train and evaluation loop, for every model of ours: deterministic, resumable, on whatever device there is."""

import json
import math
import resource
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from upheld.common import progress
from upheld.common.curves import Curves, Totals
from upheld.common.errors import FailedWork
from upheld.common.files import replacing
from upheld.common.params.training import Fit
from upheld.common.terminal import console
from upheld.feature_store.backbones.devices import Lane, autocast, kernels_of
from upheld.training.loop.batches import Batches, Inputs, epoch_batches, loaded, micro_batches, share_of_batch
from upheld.training.loop.examples import Rows
from upheld.training.loop.optimizer import build_optimizer, set_progress


@dataclass
class State:
    """Progress of a run: `step` batches done in all, `loss_sum` and `weight_sum` of the current epoch, one `history` record an epoch.

    `best_epoch` is None before the first evaluation; `history` records hold epoch, train_loss and the validation figures.
    """

    step: int = 0
    loss_sum: float = 0.0
    weight_sum: float = 0.0
    best_epoch: int | None = None
    best_score: float | None = None
    history: list[dict[str, Any]] = field(default_factory=list)


def save_checkpoint(path: Path, state: State, model: nn.Module, optimizer: torch.optim.Optimizer, best: dict[str, torch.Tensor]) -> None:
    """Write progress, trainable parameters, the optimiser's moments and the best parameters so far."""
    trainable = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    tensors = {f"model/{name}": parameter.detach() for name, parameter in trainable.items()}
    tensors |= {f"best/{name}": tensor for name, tensor in best.items()}
    for name, parameter in trainable.items():
        moments = optimizer.state.get(parameter, {})
        tensors |= {f"optimizer/{name}/{key}": value for key, value in moments.items()}
    with replacing(path) as partial:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial, {"state": json.dumps(asdict(state))})


def load_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[State, dict[str, torch.Tensor]]:
    """Put a run back where `save_checkpoint` saw it.

    Returns:
        (progress, best parameters by name on the CPU).
    """
    parameters = dict(model.named_parameters())
    best: dict[str, torch.Tensor] = {}
    with safe_open(path, framework="pt", device="cpu") as file:
        state = State(**json.loads(file.metadata()["state"]))
        for key in file.keys():  # noqa: SIM118  # safe_open is no mapping
            kind, name = key.split("/", 1)
            tensor = file.get_tensor(key)
            if kind == "best":
                best[name] = tensor
            elif kind == "model":
                parameters[name].data.copy_(tensor)
            else:
                name, moment = name.rsplit("/", 1)
                parameter = parameters[name]
                # In the parameter's own order in memory (channels last, for convolutions): the fused optimiser walks both side by side.
                placed = torch.empty_like(parameter, dtype=tensor.dtype).copy_(tensor) if tensor.ndim else tensor
                optimizer.state[parameter][moment] = placed
    return state, best


MAX_GRADIENT_NORM = 1.0

SETTLED_EVERY = {"cpu": 1, "cuda": 16}  # steps between two looks at the losses, for which a GPU has to be waited for


class Evaluate(Protocol):
    """Scores the model as it stands on the validation rows; the figures hold `score` (higher is better, or None)."""

    def __call__(self) -> dict[str, Any]:
        """Return the figures."""


@dataclass(frozen=True)
class Fitted:
    """What training did: one record an epoch, the epoch whose weights were kept (0 is before training), and its speed.

    `samples_per_s` counts rows trained in this process's lifetime, validation excluded; None if nothing was left to train.
    """

    history: list[dict[str, Any]]
    best_epoch: int | None
    samples_per_s: float | None


@dataclass
class _Run:
    """What one call of `fit` passes around."""

    model: nn.Module  # as the caller gave it
    wrapped: nn.Module  # the same, inside DistributedDataParallel where there are several processes
    optimizer: torch.optim.Optimizer
    accelerator: Accelerator
    train: Batches
    use_bfloat16: bool
    settings: Fit
    seed: int
    checkpoint: Path
    state: State
    best: dict[str, torch.Tensor]
    curves: Curves
    unsettled: list[tuple[Rows, torch.Tensor, torch.Tensor]] = field(default_factory=list)  # rows, loss and gradient's norm of a step
    norms: list[float] = field(default_factory=list)  # of the gradient, in steps that are settled and stand in no curve yet


def fit(
    model: nn.Module,
    train: Batches,
    evaluate: Evaluate,
    settings: Fit,
    seed: int,
    checkpoint: Path,
    use_bfloat16: bool,
    lane: Lane,
    score_start: bool = False,
    curves: Path | None = None,
) -> Fitted:
    """Train `model` in place and leave it with the weights of its best epoch, in evaluation mode.

    Every random draw follows from (seed, step) or (seed, epoch), so in the deterministic lane the same machine, data and settings give
    the same weights, and so does a run that was killed and started again: it goes on from `checkpoint`.

    Args:
        model: says which of its parameters are new (`optimizer.HasNewParameters`).
        train: what to learn from, and how.
        evaluate: called after every epoch; training stops when its score has not improved for `settings.patience` epochs.
        settings: the model's section of the params.
        seed: of batch order, dropout and augmentation.
        checkpoint: file for progress, written every `settings.checkpoint_steps` batches; the caller names it after everything
            that the result depends on, and removes it when the model is safe.
        use_bfloat16: whether to run the model in bfloat16 where the hardware does so.
        lane: which kernels may be used.
        score_start: evaluate before the first step too and let it compete, for a model that has been trained before.
        curves: file that is told how it goes, by the main process alone; nothing that is trained depends on it.

    Raises:
        FailedWork: a loss or gradient is not finite; the checkpoint is that of before.
    """
    accelerator = Accelerator(mixed_precision="no")  # bfloat16 is `autocast`'s matter: the same rule in training and outside
    optimizer = build_optimizer(model, settings.learning_rate, settings.head_learning_rate, settings.layer_decay, settings.weight_decay)
    wrapped = accelerator.prepare(model) if accelerator.num_processes > 1 else model.to(accelerator.device)
    state, best = load_checkpoint(checkpoint, model, optimizer) if checkpoint.exists() else (State(), {})
    written = Curves(curves if accelerator.is_main_process else None, state.step, state.loss_sum, state.weight_sum)
    run = _Run(model, wrapped, optimizer, accelerator, train, use_bfloat16, settings, seed, checkpoint, state, best, written)
    with kernels_of(lane):
        samples_per_s = _train(run, evaluate, score_start)
    parameters = dict(model.named_parameters())
    for name, tensor in run.best.items():
        parameters[name].data.copy_(tensor)
    model.eval()
    return Fitted(run.state.history, run.state.best_epoch, samples_per_s)


def _train(run: _Run, evaluate: Evaluate, score_start: bool) -> float | None:
    state, settings = run.state, run.settings
    device, steps_per_epoch = run.accelerator.device, -(-len(run.train.costs) // settings.batch_size)
    if score_start and not state.history:
        _record(run, 0, None, evaluate())
    num_rows, seconds = 0, 0.0
    shown: AbstractContextManager[Progress] = Progress(console=console(), disable=True)
    if run.accelerator.is_local_main_process:  # one of the processes that train together shows how far they are
        columns = ("{task.description}", BarColumn(), "{task.completed}/{task.total} batches", "{task.fields[rate]:.1f} samples/s")
        shown = progress.shown(*columns, TextColumn("loss {task.fields[loss]:.4f}"), TimeRemainingColumn(), unit="batches")
    with shown as bars:
        task = bars.add_task("training", total=settings.epochs * steps_per_epoch, completed=state.step, rate=0.0, loss=float("nan"))
        while state.step < settings.epochs * steps_per_epoch:
            if state.history and state.best_epoch is not None and state.history[-1]["epoch"] - state.best_epoch >= settings.patience:
                break
            epoch, offset = divmod(state.step, steps_per_epoch)
            bars.update(task, description=f"epoch {epoch + 1} of {settings.epochs}")
            steps = epoch_batches(run.train.costs, settings.batch_size, run.seed, epoch)[offset:]
            parts = [_parts_of(run, rows) for rows in steps]
            seeded = [(part, hash_of(run.seed, step)) for step, some in enumerate(parts, state.step) for part in some]
            inputs = loaded(run.train, seeded, device)
            began = time.perf_counter()
            for rows, some in zip(steps, parts, strict=True):
                _step(run, rows, list(islice(inputs, len(some))), settings.epochs * steps_per_epoch)
                num_rows += len(rows)
                # Not after an epoch's last batch: it is saved once it is scored, and a run that went on from before would never score it.
                saves = state.step % settings.checkpoint_steps == 0 and state.step % steps_per_epoch != 0
                if saves or len(run.unsettled) == SETTLED_EVERY[device.type]:
                    _settle(run)
                    trained_s, loss = seconds + time.perf_counter() - began, state.loss_sum / max(state.weight_sum, 1e-9)
                    bars.update(task, completed=state.step, rate=num_rows / trained_s, loss=loss)
                    if run.curves.due():
                        _write_curves(run, num_rows, trained_s, steps_per_epoch)
                if saves:
                    _save(run)
            _settle(run)
            seconds += time.perf_counter() - began
            if run.norms:
                _write_curves(run, num_rows, seconds, steps_per_epoch)
            train_loss = state.loss_sum / max(state.weight_sum, 1e-9)
            state.loss_sum = state.weight_sum = 0.0
            figures = evaluate()
            _record(run, epoch + 1, train_loss, figures)
            line = f"epoch {epoch + 1}: train loss {train_loss:.4f}, val {_figures_text(figures)}, {num_rows / seconds:.1f} samples/s"
            if run.accelerator.is_local_main_process:
                bars.console.print(line, soft_wrap=True)
            _save(run)
    return num_rows / seconds if seconds else None


def _parts_of(run: _Run, rows: Rows) -> list[Rows]:
    """What this process computes of a batch, in parts that fit."""
    mine = share_of_batch(rows, run.accelerator.process_index, run.accelerator.num_processes)
    return micro_batches(mine, run.train.costs, run.settings.micro_batch_cost)


def _step(run: _Run, rows: Rows, parts: list[Inputs], num_steps: int) -> None:
    """One batch: the gradient is that of the whole batch however many processes and parts share it."""
    accelerator, state = run.accelerator, run.state
    total = run.train.weight(rows)
    run.wrapped.train()
    set_progress(run.optimizer, state.step, num_steps, run.settings.warmup_share)

    def forward(inputs: Inputs) -> torch.Tensor:
        """What the model makes of inputs, in bfloat16 if asked for."""
        with autocast(accelerator.device) if run.use_bfloat16 else nullcontext():
            outputs: torch.Tensor = run.wrapped(**inputs)
        return outputs

    torch.manual_seed(hash_of(run.seed, state.step, accelerator.process_index))
    # A row lent by another process, so that all take part in the gradient, counts for nothing.
    # DistributedDataParallel averages gradients; times the number of processes it is their sum, over the batch's weight.
    factor = 0.0 if len(rows) <= accelerator.process_index else accelerator.num_processes / max(total, 1e-9)
    losses = []
    for number, inputs in enumerate(parts, start=1):
        with nullcontext() if number == len(parts) else accelerator.no_sync(run.wrapped):  # processes meet once a step
            loss = run.train.loss(forward, inputs)
            accelerator.backward(loss * factor)
        losses.append(loss.detach() if factor else torch.zeros_like(loss))
    norm = nn.utils.clip_grad_norm_(run.model.parameters(), MAX_GRADIENT_NORM)
    run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=True)
    state.step += 1
    state.weight_sum += total
    run.unsettled.append((rows, torch.stack(losses).sum(), norm))


def _settle(run: _Run) -> None:
    """Read the losses of the steps since the last time: the one moment at which a GPU is waited for.

    Raises:
        FailedWork: one of them, or a gradient, is not finite.
    """
    if not run.unsettled:
        return
    steps, losses, norms = zip(*run.unsettled, strict=True)
    run.unsettled.clear()
    summed, settled_norms = run.accelerator.reduce(torch.stack(losses), "sum").tolist(), torch.stack(norms).tolist()
    for number, (rows, loss, norm) in enumerate(zip(steps, summed, settled_norms, strict=True)):
        if not (math.isfinite(loss) and math.isfinite(norm)):
            posts = ", ".join(run.train.names[row] for row in rows)
            raise FailedWork(
                f"training diverged at step {run.state.step - len(steps) + number + 1}: loss {loss:g}, gradient {norm:g}, on {posts}; "
                "look at what is odd in them, or lower learning_rate and head_learning_rate"
            )
        run.state.loss_sum += loss
    run.norms += settled_norms


def _write_curves(run: _Run, num_rows: int, seconds: float, steps_per_epoch: int) -> None:
    """Tell how the steps since the last time went; the learning rate is the highest of all parameters', which is the head's."""
    state, device = run.state, run.accelerator.device
    if device.type == "cuda":
        peak_bytes = torch.cuda.max_memory_allocated(device)
    else:
        peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    figures = {
        "epoch": state.step / steps_per_epoch,
        "learning_rate": max(group["lr"] for group in run.optimizer.param_groups),
        "peak_memory_mb": peak_bytes / 1e6,
    }
    run.curves.write_steps(state.step, Totals(num_rows, seconds, state.loss_sum, state.weight_sum), run.norms, figures)
    run.norms.clear()


def hash_of(*parts: int) -> int:
    """A 63-bit seed out of several non-negative numbers, well mixed."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _record(run: _Run, epoch: int, train_loss: float | None, figures: dict[str, Any]) -> None:
    """Add an epoch to the history; keep its weights if they are the best so far (the latest, where nothing can be scored)."""
    state, score = run.state, figures["score"]
    state.history.append({"epoch": epoch, "train_loss": train_loss, **figures})
    run.curves.write_epoch(state.step, state.history[-1])
    if score is None or state.best_score is None or score > state.best_score:
        state.best_epoch, state.best_score = epoch, score
        trainable = ((name, parameter) for name, parameter in run.model.named_parameters() if parameter.requires_grad)
        run.best = {name: parameter.detach().cpu().clone() for name, parameter in trainable}


def _save(run: _Run) -> None:
    if run.accelerator.is_main_process:
        save_checkpoint(run.checkpoint, run.state, run.model, run.optimizer, run.best)


def _figures_text(figures: dict[str, Any]) -> str:
    """Every figure that is a number, and those of figures by name."""
    parts = []
    for name, value in figures.items():
        if isinstance(value, float) and name != "score":
            parts.append(f"{name} {value:.4f}")
        elif isinstance(value, dict):
            parts += [f"{name} {part} {figure:.3f}" for part, figure in value.items() if figure is not None]
    return ", ".join(parts)
