"""What the stages `text`, `image` and `audio` share: from labelled posts to a trained model and its record."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from safetensors.torch import save_file
from torch import nn

from upheld.common import curves
from upheld.common.files import replacing_folder, write_json
from upheld.common.params.training import Pretrained, Training
from upheld.feature_store.backbones.devices import Lane, best_device, has_fast_bfloat16
from upheld.feature_store.contracts import hashing
from upheld.training.loop import tensor_file
from upheld.training.loop.batches import Batches, Forward, Inputs
from upheld.training.loop.examples import Array, Examples, Rows
from upheld.training.loop.head import fit_head, set_head
from upheld.training.loop.loop import Fitted, fit
from upheld.training.loop.losses import balanced_categories, balanced_positive_weights, masked_loss, prior_logits, validation_figures

# (logits (N, C), targets (N, C), weights (N, C)) -> scalar: a sum over rows, to be divided by the weight of the whole batch.
Objective = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
# (loss of the model's inputs, inputs) -> the loss to learn by, of these inputs and of others like them
Hardened = Callable[[Callable[[Inputs], torch.Tensor], Inputs], torch.Tensor]
TARGETS, WEIGHTS = "targets", "weights"  # among a batch's inputs, for the loss


@dataclass(frozen=True)
class Task:
    """One classifier to train: the model, its section of the params, the examples, and how it scores its validation rows.

    `val_targets` and `val_weights` are float32 (M, C); `predict_val` gives float32 probabilities (M, C) from the model as it
    stands. With `use_bfloat16` training runs in bfloat16 where the hardware does so, in `lane`. A `warm` model has been trained before: its
    bias is kept, and its starting point competes on val. `features` gives what the head sees of each of the N training rows, float32
    (N, F); it is asked where `settings.mode` wants the head fitted on them, and the fitted head competes on val, too. `hardened` is how
    the network learns to hold against attacks, if it does.
    """

    model: nn.Module
    policies: tuple[str, ...]
    settings: Training
    seed: int
    train: Examples
    val_targets: Array
    val_weights: Array
    predict_val: Callable[[], Array]
    use_bfloat16: bool
    lane: Lane
    warm: bool = False
    features: Callable[[], Array] | None = None
    hardened: Hardened | None = None


def train(task: Task, checkpoint: Path) -> tuple[dict[str, Any], float | None]:
    """Train the task's model in place.

    Returns:
        the record for metadata.json (params, counts, each epoch's validation figures, best epoch, machine), and samples/s
        (None where the head alone was fitted, or a finished run was picked up), which is kept out of the record: equal runs give
        equal files.
    """
    settings = task.settings
    weights = balanced_categories(task.train.weights, settings.category_balance)
    positive = balanced_positive_weights(task.train.targets, weights)
    if settings.class_weight == "none":
        positive = np.ones_like(positive)
    mode = settings.mode if isinstance(settings, Pretrained) else "full"
    if mode != "full":
        assert isinstance(settings, Pretrained) and task.features is not None
        task.model.to(best_device())
        fitted_head = fit_head(task.features(), task.train.targets, task.train.weights, positive, settings.head_inverse_l2)
        set_head(task.model.head, *fitted_head)  # type: ignore[arg-type]
    elif not task.warm:
        with torch.no_grad():
            task.model.head.bias.copy_(torch.from_numpy(prior_logits(task.train.targets, task.train.weights)))  # type: ignore[union-attr, operator]
    examples = replace(task.train, weights=weights)
    weight_of_violations = torch.from_numpy(positive).to(best_device())

    def objective(logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return masked_loss(logits, targets, weights, weight_of_violations, settings.focal_gamma)

    def evaluate() -> dict[str, Any]:
        return validation_figures(task.predict_val(), task.val_targets, task.val_weights, task.policies)

    if mode == "head":
        task.model.eval()
        fitted = Fitted([{"epoch": 0, "train_loss": None, **evaluate()}], 0, None)
    else:
        score_start = task.warm or mode == "head-then-full"
        batches = batches_of(examples, objective, task.hardened)
        fitted = fit(
            task.model, batches, evaluate, settings, task.seed, checkpoint, task.use_bfloat16, task.lane, score_start, curves.place()
        )
    device = best_device()
    # What the weights depend on besides data and params. Times are left out: equal runs must give equal files.
    machine = {
        "device": device.type,
        "lane": task.lane,
        "processes": PartialState().num_processes,
        "bfloat16": task.use_bfloat16 and has_fast_bfloat16(device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    record = {
        "params": settings.model_dump(),
        "seed": task.seed,
        "num_train_posts": len(task.train.costs),
        "num_train_labels": {policy: int((task.train.weights[:, c] > 0).sum()) for c, policy in enumerate(task.policies)},
        "val": next((figures for figures in fitted.history if figures["epoch"] == fitted.best_epoch), None),
        "best_epoch": fitted.best_epoch,
        "history": fitted.history,
        "machine": machine,
    }
    return record, fitted.samples_per_s


def batches_of(examples: Examples, objective: Objective, hardened: Hardened | None = None) -> Batches:
    """Examples as the loop learns from them: the loss of their known labels, divided by the labels' weights, `hardened` where asked for."""

    def inputs(rows: Rows, seed: int) -> Inputs:
        labels = {TARGETS: torch.from_numpy(examples.targets[rows]), WEIGHTS: torch.from_numpy(examples.weights[rows])}
        return examples.inputs(rows, seed) | labels

    def loss(forward: Forward, inputs: Inputs) -> torch.Tensor:
        targets, weights = inputs.pop(TARGETS), inputs.pop(WEIGHTS)

        def of_inputs(some: Inputs) -> torch.Tensor:
            return objective(forward(some), targets, weights)

        return hardened(of_inputs, inputs) if hardened else of_inputs(inputs)

    return Batches(examples.costs, inputs, loss, lambda rows: float(examples.weights[rows].sum()), examples.post_ids)


def checkpoint_folder(store: Path, stage: str, code: Sequence[str], *parts: Any) -> Path:
    """Folder for a run's progress, named after everything that its result depends on.

    Args:
        stage: `text`, `image`, `audio` or `logo`.
        code: modules and packages that the result depends on, by dotted name.
        parts: JSON values: params, digests of data and of the model started from.
    """
    return store / "checkpoints" / hashing.of_json([stage, hashing.of_code(code), torch.__version__, *parts])


@contextmanager
def publishing(model: Path, checkpoint: Path) -> Iterator[Path | None]:
    """Write a trained model's folder once, however many processes trained it, and then remove the run's progress.

    Args:
        model: folder to write; replaced as a whole.
        checkpoint: folder of the run's progress, removed when the model is safe.

    Yields:
        an empty folder to fill, in the main process; None in the others.
    """
    if not PartialState().is_main_process:
        yield None
        return
    with replacing_folder(model) as unfinished:
        yield unfinished
    shutil.rmtree(checkpoint, ignore_errors=True)


@dataclass(frozen=True)
class Result:
    """What a stage did that may find nothing to learn from; `reason` says why there is no model where there is none."""

    trained: bool
    reason: str | None
    num_train_posts: int
    best_epoch: int | None = None
    val: dict[str, Any] | None = None
    samples_per_s: float | None = None


def save_model(model: nn.Module, folder: Path, metadata: dict[str, Any]) -> None:
    """Write a model with a `setup` into an existing folder: upheld.safetensors and metadata.json (metrics, params, setup)."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, folder / tensor_file.NAME)
    write_json(folder / "metadata.json", {**metadata, "trained": True, "setup": asdict(model.setup)})  # type: ignore[call-overload]


def save_untrained(folder: Path, reason: str, policies: Sequence[str]) -> None:
    """Write the honest absence of a model: metadata.json alone, with `trained` false and the reason."""
    write_json(folder / "metadata.json", {"trained": False, "reason": reason, "policies": list(policies)})
