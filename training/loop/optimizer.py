"""Which parameter learns how fast, and when."""

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Protocol, cast

import torch
from torch import nn

BLOCK = re.compile(r"\.(?:layer|layers|blocks|h)\.(\d+)\.")  # names of transformer blocks and stages in transformers, timm, torchvision


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
        layer_decay: in (0, 1], factor of the learning rate from each block to the one below; what lies below all blocks
            (embeddings, stem) gets one factor more than the lowest.
        weight_decay: of matrices; vectors (biases, norms) have none.

    Returns:
        an optimiser whose groups carry `base_lr`, which `set_progress` scales.
    """
    depths = [int(found[1]) for name, _ in model.named_parameters() if (found := BLOCK.search(name))]
    top = max(depths, default=-1)
    new = {id(parameter) for parameter in cast(HasNewParameters, model).new_parameters()}
    groups: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            found = BLOCK.search(name)
            below = top - int(found[1]) if found else top + 1
            rate = head_learning_rate if id(parameter) in new else learning_rate * layer_decay**below
            groups[rate, weight_decay if parameter.ndim > 1 else 0.0].append(parameter)
    return torch.optim.AdamW(
        [{"params": parameters, "lr": rate, "base_lr": rate, "weight_decay": decay} for (rate, decay), parameters in groups.items()],
        fused=True,
    )


def set_progress(optimizer: torch.optim.Optimizer, step: int, num_steps: int, warmup_share: float) -> None:
    """Set the learning rates for a step: linear rise over the first `warmup_share` of the steps, linear fall to 0 at the end."""
    num_warmup = max(1, round(num_steps * warmup_share))
    factor = min((step + 1) / num_warmup, (num_steps - step) / max(1, num_steps - num_warmup))
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * min(1.0, factor)
