"""A trained Faster R-CNN: applied, saved, loaded."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from upheld.feature_store.backbones.devices import best_device
from upheld.training.logos.network import FasterRcnn
from upheld.training.logos.photos import Found, Pixels


class FasterRcnnBackend:
    """A network on the best device here, ready to detect.

    Args:
        network: trained.
        arguments: what `FasterRcnn` was made with, `pretrained` aside.
    """

    def __init__(self, network: FasterRcnn, arguments: dict[str, Any]) -> None:
        self.network = network.to(best_device()).eval()
        self.arguments = arguments

    @torch.inference_mode()
    def detect(self, pictures: Pixels) -> list[Found]:
        """Marks on each of uint8 (N, S, S, 3) pictures."""
        self.network.eval()
        results = self.network.network(list(to_images(pictures).to(best_device()).float() / 255))
        return [
            Found(found["boxes"].float().cpu().numpy(), found["labels"].cpu().numpy() - 1, found["scores"].float().cpu().numpy())
            for found in results
        ]

    def save(self, folder: Path) -> dict[str, Any]:
        """Write the weights; returns the arguments that make the network again."""
        save_file({name: tensor.contiguous() for name, tensor in self.network.state_dict().items()}, folder / "model.safetensors")
        return self.arguments


def load_faster_rcnn(folder: Path, arguments: dict[str, Any]) -> FasterRcnnBackend:
    """Read what `FasterRcnnBackend.save` wrote.

    Raises:
        OSError, RuntimeError: the weights are missing or another network's.
    """
    network = FasterRcnn(**arguments, pretrained=False)
    network.load_state_dict(load_file(folder / "model.safetensors"))
    return FasterRcnnBackend(network, arguments)


def to_images(pictures: Pixels) -> torch.Tensor:
    """uint8 (N, S, S, 3) pictures as uint8 (N, 3, S, S)."""
    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2)
