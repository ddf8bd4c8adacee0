"""Learning rates by depth and by step."""

import pytest
import timm
import torch
from torch import nn
from torchvision.models import resnet18
from torchvision.models.vision_transformer import VisionTransformer
from transformers import BertConfig, BertModel

from upheld.training.loop.optimizer import build_optimizer, depths, set_progress


class Layered(nn.Module):
    """Names as in a transformer with two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.ModuleDict({"embeddings": nn.Linear(2, 2), "layer": nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])})
        self.norm, self.head = nn.LayerNorm(2), nn.Linear(2, 1)

    def new_parameters(self) -> list[nn.Parameter]:
        return [*self.norm.parameters(), *self.head.parameters()]


class Headed(nn.Module):
    """A network of timm's under a head of ours."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.head = network, nn.Linear(512, 2)

    def new_parameters(self) -> list[nn.Parameter]:
        return list(self.head.parameters())


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


def test_blocks_of_a_transformer_are_its_layers() -> None:
    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 1, "intermediate_size": 8, "vocab_size": 9}
    found = depths(BertModel(BertConfig(**sizes)))
    assert {name.split(".")[2]: depth for name, depth in found.items() if name.startswith("encoder")} == {"0": 1, "1": 2}
    assert {depth for name, depth in found.items() if name.startswith("embeddings")} == {0}
    assert found["pooler.dense.weight"] == 2


def test_blocks_of_torchvision_networks_go_by_the_order_of_their_modules() -> None:
    vit = depths(VisionTransformer(32, 16, 3, 2, 8, 8))
    assert [vit[f"encoder.layers.encoder_layer_{block}.mlp.0.weight"] for block in range(3)] == [1, 2, 3]
    assert (vit["class_token"], vit["conv_proj.weight"], vit["encoder.pos_embedding"], vit["encoder.ln.weight"]) == (0, 0, 0, 3)
    resnet = depths(resnet18())
    assert [resnet[name] for name in ("conv1.weight", "layer1.1.conv2.weight", "layer2.0.conv1.weight", "layer4.1.bn2.bias")] == [
        0,
        1,
        2,
        4,
    ]


def test_timm_says_what_its_blocks_are() -> None:
    network = timm.create_model("resnet18", num_classes=0)
    inside = depths(nn.ModuleDict({"network": network, "head": nn.Linear(512, 2)}))
    assert [inside[f"network.{name}"] for name in ("conv1.weight", "layer1.0.conv1.weight", "layer1.1.conv1.weight")] == [0, 1, 2]
    model = Headed(network)
    by_name = rates(build_optimizer(model, 1e-3, 1e-2, 0.5, 0.0), model)
    assert by_name["network.layer4.1.conv1.weight"][0] == pytest.approx(1e-3)
    assert by_name["network.layer4.0.conv1.weight"][0] == pytest.approx(5e-4)
    assert by_name["network.conv1.weight"][0] == pytest.approx(1e-3 / 2**8)
    assert by_name["head.weight"][0] == 1e-2
