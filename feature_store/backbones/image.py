"""The pretrained image encoder: EfficientNet-lite0 out of a pinned package, or any timm or torchvision model by name."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import timm
import torch
import torchvision
from safetensors.torch import load_file
from torch import nn

from upheld.common.errors import BadUse, FailedWork
from upheld.feature_store.backbones.pretrained import LITE0, TORCHVISION, converted, lite0_weights, pinned

LITE0_TIMM = "tf_efficientnet_lite0"
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # channel means and deviations of torchvision's own preprocessing


class Backbone(NamedTuple):
    """A network from float32 (N, 3, H, W) to features (N, `num_features`), and the channel means and deviations it wants of [0, 1]."""

    network: nn.Module
    num_features: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


def load_image_backbone(name: str) -> Backbone:
    """Load a pretrained network.

    Args:
        name: `efficientnet-lite0`, `torchvision/NAME`, or `NAME@COMMIT`: a timm model (or `hf-hub:ID`), whose weights lie on the hub.

    Raises:
        FailedWork: the packaged file is missing or is not that network.
        BadUse: there is no such model, its weights cannot be fetched, or it lacks its commit.
    """
    if name == LITE0:
        backbone = empty_image_backbone(name)
        backbone.network.load_state_dict(load_file(converted(LITE0, lite0_weights(), _in_timm_names)))
        return backbone
    if not name.startswith(TORCHVISION):
        pinned(name)
    try:
        return _create(name, pretrained=True)
    except Exception as error:  # timm, torchvision and the hub client share no type
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise BadUse(
            f"image backbone {name!r} cannot be loaded ({reason}); name NAME@COMMIT of timm, {TORCHVISION}NAME, or {LITE0!r}"
        ) from error


def empty_image_backbone(name: str) -> Backbone:
    """The same network with random weights, to be filled from a file."""
    return _create(name, pretrained=False)


def to_tensor(pictures_NHWC: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    """Scale uint8 (N, H, W, 3) pictures to float32 (N, 3, H, W) in memory order NHWC, where they are.

    Args:
        pictures_NHWC: on whichever device is to scale them.
        mean: of each channel's values in [0, 1].
        std: their deviations.
    """
    means, deviations = (255 * torch.tensor(values, device=pictures_NHWC.device).reshape(1, -1, 1, 1) for values in (mean, std))
    return pictures_NHWC.permute(0, 3, 1, 2).sub(means).div_(deviations)


def _create(name: str, pretrained: bool) -> Backbone:
    if name.startswith(TORCHVISION):
        network = torchvision.models.get_model(name.removeprefix(TORCHVISION), weights="DEFAULT" if pretrained else None)
        # An identity takes the place of the last linear layer, the classifier.
        last, layer = [(place, module) for place, module in network.named_modules() if isinstance(module, nn.Linear)][-1]
        network.set_submodule(last, nn.Identity())
        return Backbone(network, int(layer.in_features), *IMAGENET)
    architecture, pin, commit = (LITE0_TIMM if name == LITE0 else name).partition("@")
    if architecture.startswith("hf-hub:"):
        network = timm.create_model(name, pretrained=pretrained, num_classes=0)  # which reads the commit itself
    else:
        known = timm.get_pretrained_cfg(architecture)
        at_commit = {"hf_hub_id": f"{known.hf_hub_id}@{commit}"} if pin and known else None
        network = timm.create_model(architecture, pretrained=pretrained, num_classes=0, pretrained_cfg_overlay=at_commit)
    config = network.pretrained_cfg
    return Backbone(network, network.num_features, tuple(config["mean"]), tuple(config["std"]))


def _in_timm_names(path: Path) -> Mapping[str, torch.Tensor]:
    """The packaged tensors under timm's names: both list the same 296 in the same order; the classifier's two are left out."""
    packed = torch.load(path, map_location="cpu", weights_only=True)
    expected = timm.create_model(LITE0_TIMM, pretrained=False).state_dict()
    pairs = list(zip(expected.items(), packed.items(), strict=False))
    alike = all(ours.shape == theirs.shape and a.split(".")[-1] == b.split(".")[-1] for (a, ours), (b, theirs) in pairs)
    if len(expected) != len(packed) or not alike:
        raise FailedWork(f"{path}: its tensors do not match {LITE0_TIMM}; run `make setup` to reinstall the pinned package")
    return {name: tensor.contiguous() for (name, _), (_, tensor) in pairs if not name.startswith("classifier.")}
