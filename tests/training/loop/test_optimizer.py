"""Learning rates by depth and by step."""

import pytest
import torch
from torch import nn

from upheld.training.loop.optimizer import build_optimizer, set_progress


class Layered(nn.Module):
    """Names as in a transformer with two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.ModuleDict({"embeddings": nn.Linear(2, 2), "layer": nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])})
        self.norm, self.head = nn.LayerNorm(2), nn.Linear(2, 1)

    def new_parameters(self) -> list[nn.Parameter]:
        return [*self.norm.parameters(), *self.head.parameters()]


def rates(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, tuple[float, float]]:
    found = {id(tensor): (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for tensor in group["params"]}
    return {name: found[id(parameter)] for name, parameter in model.named_parameters() if id(parameter) in found}


def test_rates_fall_with_depth_and_vectors_do_not_decay() -> None:
    model = Layered()
    by_name = rates(build_optimizer(model, 1e-4, 1e-3, 0.5, 0.01), model)
    assert by_name["head.weight"] == (1e-3, 0.01)
    assert by_name["norm.bias"] == (1e-3, 0.0)
    assert by_name["encoder.layer.1.weight"] == (1e-4, 0.01)
    assert by_name["encoder.layer.0.bias"] == (5e-5, 0.0)
    assert by_name["encoder.embeddings.weight"] == (2.5e-5, 0.01)


def test_frozen_parameters_are_left_out() -> None:
    model = Layered()
    model.encoder["embeddings"].requires_grad_(False)
    assert "encoder.embeddings.weight" not in rates(build_optimizer(model, 1e-4, 1e-3, 0.5, 0.01), model)


def test_rates_rise_and_fall() -> None:
    optimizer = build_optimizer(Layered(), 1.0, 1.0, 1.0, 0.0)
    seen = []
    for step in range(10):
        set_progress(optimizer, step, 10, 0.2)
        seen.append(optimizer.param_groups[0]["lr"])
    assert seen == pytest.approx([0.5, 1.0, 1.0, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8])
