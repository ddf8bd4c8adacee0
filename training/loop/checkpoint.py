"""Where a training run was when it was killed: one safetensors file, replaced whole every few steps."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from upheld.common.files import replacing


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
