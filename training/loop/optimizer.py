"""Which parameter learns how fast, and when."""

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Protocol, cast

import torch
from timm.models import group_parameters
from torch import nn

# Of a parameter's name: up to the first part that numbers modules, as in `layer.3`, `encoder_layer_3`, `layer3.0`, but not `conv1`.
BLOCK = re.compile(r"(?:.*?\.)??(?:\d+|[^.]*\d(?=\.[^.]+\.))(?=\.)")


class HasNewParameters(Protocol):
    """A model that is trained here."""

    def new_parameters(self) -> Iterable[nn.Parameter]:
        """Those of its parameters that no pretraining gave a value, such as its head's; they learn at a rate of their own."""


def build_optimizer(
    model: nn.Module, learning_rate: float, head_learning_rate: float, layer_decay: float, weight_decay: float
) -> torch.optim.Optimizer:
    """AdamW over the trainable parameters.

    Args:
        model: `HasNewParameters`; parameters that it does not call new are pretrained.
        learning_rate: of the topmost pretrained block.
        head_learning_rate: of the new parameters.
        layer_decay: in (0, 1], factor of the learning rate from each block to the one below, blocks being those of `depths`.
        weight_decay: of matrices; vectors (biases, norms) have none.

    Returns:
        an optimiser whose groups carry `base_lr`, which `set_progress` scales.
    """
    new = {id(parameter) for parameter in cast(HasNewParameters, model).new_parameters()}
    depth_of = depths(model)
    top = max((depth_of[name] for name, parameter in model.named_parameters() if id(parameter) not in new), default=0)
    groups: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            rate = head_learning_rate if id(parameter) in new else learning_rate * layer_decay ** (top - depth_of[name])
            groups[rate, weight_decay if parameter.ndim > 1 else 0.0].append(parameter)
    return torch.optim.AdamW(
        [{"params": parameters, "lr": rate, "base_lr": rate, "weight_decay": decay} for (rate, decay), parameters in groups.items()],
        fused=True,
    )


def depths(model: nn.Module) -> dict[str, int]:
    """How many blocks lie below each parameter, by its name.

    timm says so of its networks (`group_matcher`). In others a block is what numbered modules have in common, in the order of the modules,
    and what comes between two blocks or after the last belongs to the one before: embeddings and stem have 0, a final norm the most.
    """
    found: dict[str, int] = {}
    for path, module in model.named_modules():
        if hasattr(module, "group_matcher"):
            groups = group_parameters(module, module.group_matcher(coarse=False), reverse=True)
            found |= {f"{path}.{name}".lstrip("."): depth for name, depth in groups.items()}
    blocks: dict[str, int] = {}
    depth = 0
    for name, _ in model.named_parameters():
        if name not in found:
            if block := BLOCK.match(name):
                depth = blocks.setdefault(block[0], len(blocks) + 1)
            found[name] = depth
    return found


def set_progress(optimizer: torch.optim.Optimizer, step: int, num_steps: int, warmup_share: float) -> None:
    """Set the learning rates for a step: linear rise over the first `warmup_share` of the steps, linear fall to 0 at the end."""
    num_warmup = max(1, round(num_steps * warmup_share))
    factor = min((step + 1) / num_warmup, (num_steps - step) / max(1, num_steps - num_warmup))
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * min(1.0, factor)
