"""The one train and evaluation loop, for every model of ours: deterministic, resumable, on whatever device there is."""

import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
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
from upheld.common.files import replacing
from upheld.common.params.training import Fit
from upheld.common.terminal import console
from upheld.feature_store.backbones.devices import autocast, deterministic
from upheld.training.loop.examples import Rows, epoch_batches, share_of_batch
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

Forward = Callable[[dict[str, torch.Tensor]], torch.Tensor]  # keyword arguments of the model, on any device -> what it returns


@dataclass(frozen=True)
class Batches:
    """N rows to learn from, which the loop puts into batches, at least one.

    `costs` int64 (N,), what a row costs to compute (tokens, images): rows of like cost share a batch. `step(forward, rows, seed)` is the
    loss of some rows, a scalar summed over them; augmentation, if any, follows from the seed. `weight(rows)` is what that sum is divided
    by for the gradient of a whole batch.
    """

    costs: Rows
    step: Callable[[Forward, Rows, int], torch.Tensor]
    weight: Callable[[Rows], float]


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


def fit(
    model: nn.Module,
    train: Batches,
    evaluate: Evaluate,
    settings: Fit,
    seed: int,
    checkpoint: Path,
    use_bfloat16: bool,
    score_start: bool = False,
) -> Fitted:
    """Train `model` in place and leave it with the weights of its best epoch, in evaluation mode.

    Every random draw follows from (seed, step) or (seed, epoch), so the same machine, data and settings give the same
    weights, and so does a run that was killed and started again: it goes on from `checkpoint`.

    Args:
        model: says which of its parameters are new (`optimizer.HasNewParameters`).
        train: what to learn from, and how.
        evaluate: called after every epoch; training stops when its score has not improved for `settings.patience` epochs.
        settings: the model's section of the params.
        seed: of batch order, dropout and augmentation.
        checkpoint: file for progress, written every `settings.checkpoint_steps` batches; the caller names it after everything
            that the result depends on, and removes it when the model is safe.
        use_bfloat16: whether to run the model in bfloat16 where the hardware does so.
        score_start: evaluate before the first step too and let it compete, for a model that has been trained before.
    """
    accelerator = Accelerator(mixed_precision="no")  # bfloat16 is `autocast`'s matter: the same rule in training and outside
    optimizer = build_optimizer(model, settings.learning_rate, settings.head_learning_rate, settings.layer_decay, settings.weight_decay)
    wrapped = accelerator.prepare(model) if accelerator.num_processes > 1 else model.to(accelerator.device)
    run = _Run(model, wrapped, optimizer, accelerator, train, use_bfloat16, settings, seed, checkpoint, State(), {})
    if checkpoint.exists():
        run.state, run.best = load_checkpoint(checkpoint, model, optimizer)
    with deterministic():
        samples_per_s = _train(run, evaluate, score_start)
    parameters = dict(model.named_parameters())
    for name, tensor in run.best.items():
        parameters[name].data.copy_(tensor)
    model.eval()
    return Fitted(run.state.history, run.state.best_epoch, samples_per_s)


def _train(run: _Run, evaluate: Evaluate, score_start: bool) -> float | None:
    state, settings = run.state, run.settings
    steps_per_epoch = -(-len(run.train.costs) // settings.batch_size)
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
            for rows in epoch_batches(run.train.costs, settings.batch_size, run.seed, epoch)[offset:]:
                began = time.perf_counter()
                _step(run, rows, settings.epochs * steps_per_epoch)
                num_rows, seconds = num_rows + len(rows), seconds + time.perf_counter() - began
                rate, loss = num_rows / seconds, state.loss_sum / max(state.weight_sum, 1e-9)
                bars.update(task, completed=state.step, rate=rate, loss=loss)
                if state.step % settings.checkpoint_steps == 0:
                    _save(run)
            train_loss = state.loss_sum / max(state.weight_sum, 1e-9)
            state.loss_sum = state.weight_sum = 0.0
            figures = evaluate()
            _record(run, epoch + 1, train_loss, figures)
            line = f"epoch {epoch + 1}: train loss {train_loss:.4f}, val {_figures_text(figures)}, {num_rows / seconds:.1f} samples/s"
            bars.console.print(line, soft_wrap=True)
            _save(run)
    return num_rows / seconds if seconds else None


def _step(run: _Run, rows: Rows, num_steps: int) -> None:
    """One batch: the gradient is that of the whole batch however many processes share it."""
    accelerator, state = run.accelerator, run.state
    mine = share_of_batch(rows, accelerator.process_index, accelerator.num_processes)
    device = accelerator.device
    total = run.train.weight(rows)
    run.wrapped.train()
    set_progress(run.optimizer, state.step, num_steps, run.settings.warmup_share)

    def forward(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """What the model makes of inputs on the device, in bfloat16 if asked for."""
        with autocast(device) if run.use_bfloat16 else nullcontext():
            outputs: torch.Tensor = run.wrapped(**{name: tensor.to(device) for name, tensor in inputs.items()})
        return outputs

    torch.manual_seed(hash_of(run.seed, state.step, accelerator.process_index))
    loss = run.train.step(forward, mine, hash_of(run.seed, state.step))
    if len(rows) <= accelerator.process_index:  # a row lent by another process, so that all take part in the gradient
        loss = loss * 0
    # DistributedDataParallel averages gradients; times the number of processes it is their sum, over the batch's weight.
    accelerator.backward(loss * (accelerator.num_processes / max(total, 1e-9)))
    nn.utils.clip_grad_norm_(run.model.parameters(), MAX_GRADIENT_NORM)
    run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=True)
    state.step += 1
    state.loss_sum += float(accelerator.reduce(loss.detach(), "sum"))
    state.weight_sum += total


def hash_of(*parts: int) -> int:
    """A 63-bit seed out of several non-negative numbers, well mixed."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _record(run: _Run, epoch: int, train_loss: float | None, figures: dict[str, Any]) -> None:
    """Add an epoch to the history; keep its weights if they are the best so far (the latest, where nothing can be scored)."""
    state, score = run.state, figures["score"]
    state.history.append({"epoch": epoch, "train_loss": train_loss, **figures})
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
