"""Networks whose norms were folded into their convolutions compute what they computed before."""

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from upheld.feature_store.backbones.folding import folded
from upheld.feature_store.backbones.image import LITE0, load_image_backbone


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, _BatchNorm) for module in network.modules())


def shaken(network: nn.Module) -> nn.Module:
    """With statistics that are not those of a new network, which scale by one and shift by nothing."""
    torch.manual_seed(3)
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            assert module.running_mean is not None and module.running_var is not None
            for tensor in (module.running_mean, module.bias.data):
                tensor.normal_(0, 0.3)
            for tensor in (module.running_var, module.weight.data):
                tensor.uniform_(0.5, 1.5)
    return network.eval()


@pytest.mark.parametrize(
    "network",
    [
        load_image_backbone(LITE0).network.eval(),
        shaken(timm.create_model("resnet18", num_classes=0)),
        shaken(torchvision.models.mobilenet_v3_small(num_classes=4)),
    ],
    ids=["efficientnet-lite0", "timm's resnet18", "torchvision's mobilenet"],
)
def test_every_norm_goes_and_the_features_stay(network: nn.Module) -> None:
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    copy = folded(network, 64)
    assert norms(network) > 10 and norms(copy) == 0
    pictures = torch.randn(2, 3, 96, 96)
    with torch.inference_mode():
        expected = network(pictures)
        assert torch.allclose(copy(pictures), expected, rtol=0, atol=1e-4 * float(expected.abs().max()))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_a_network_without_batch_norms_stays_as_it_is() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten()).eval()
    assert folded(network, 64) is network


def test_a_transformer_that_takes_pictures_of_one_size_alone_stays_as_it_is() -> None:
    network = torchvision.models.vit_b_16(image_size=32, num_classes=4).eval()
    assert folded(network, 32) is network


def test_a_network_that_takes_pictures_of_one_size_alone_is_shown_one_of_that_size() -> None:
    class Fixed(nn.Module):
        """Refuses other sizes, as transformers with a convolutional stem do."""

        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())

        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            """Numbers of a picture of 32 pixels."""
            assert pictures.shape[-2:] == (32, 32)
            return self.layers(pictures)  # type: ignore[no-any-return]

    assert norms(folded(shaken(Fixed()), 32)) == 0


def test_a_convolution_that_something_else_reads_too_is_left_alone() -> None:
    class Forked(nn.Module):
        """Adds a convolution to what a norm makes of it."""

        def __init__(self) -> None:
            super().__init__()
            self.convolution, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            """Both."""
            between: torch.Tensor = self.convolution(pictures)
            return between + self.norm(between)

    network = shaken(Forked())
    assert folded(network, 64) is network


def test_a_norm_before_a_convolution_is_not_folded() -> None:
    network = shaken(nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 3)))
    assert folded(network, 64) is network
