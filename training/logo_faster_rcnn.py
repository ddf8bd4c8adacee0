"""Faster R-CNN over a pretrained image backbone with a feature pyramid: torchvision's, sized for few labels.

Source: Ren et al. (2015), Faster R-CNN; Lin et al. (2017), Feature Pyramid Networks for Object Detection.
"""

from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign

from feature_store.backbones.devices import best_device
from feature_store.backbones.image import LITE0_TIMM, load_image_backbone
from feature_store.backbones.pretrained import LITE0
from training.logo_detector import Found
from training.logo_photos import Pixels

LEVELS = (2, 3, 4)  # of timm's feature pyramid: strides 8, 16, 32
ANCHORS = ((24, 40), (64, 96), (144, 240))  # sides in pixels at each level; half of all marks are 4 % to 33 % of a 320-pixel photo
RATIOS = (0.5, 1.0, 2.0)
CHANNELS, HIDDEN, POOLED = 128, 256, 7
PROPOSALS = {
    "rpn_pre_nms_top_n_train": 500, "rpn_post_nms_top_n_train": 300,
    "rpn_pre_nms_top_n_test": 300, "rpn_post_nms_top_n_test": 150,
    "box_batch_size_per_image": 64, "box_detections_per_img": 50,
}  # fmt: skip  # a photo holds a mark or two, not the hundreds of things of COCO


class Pyramid(nn.Module):
    """Feature maps of a backbone whose batch normalisation is frozen, brought to one width.

    Args:
        name: `efficientnet-lite0` or a timm model name.
        pretrained: whether to load weights, or leave them to be filled from a file.
    """

    def __init__(self, name: str, pretrained: bool) -> None:
        super().__init__()
        timm_name = LITE0_TIMM if name == LITE0 else name
        body = timm.create_model(timm_name, features_only=True, out_indices=LEVELS, pretrained=pretrained and name != LITE0)
        config = body.pretrained_cfg if hasattr(body, "pretrained_cfg") else timm.get_pretrained_cfg(timm_name).to_dict()
        self.mean, self.std = list(config["mean"]), list(config["std"])
        if pretrained and name == LITE0:
            weights = load_image_backbone(name)
            body.load_state_dict({key: value for key, value in weights.network.state_dict().items() if key in body.state_dict()})
            self.mean, self.std = list(weights.mean), list(weights.std)
        self.body = body
        for module in self._norms():
            module.requires_grad_(False)
        self.neck = FeaturePyramidNetwork(body.feature_info.channels(), CHANNELS)
        self.out_channels = CHANNELS

    def _norms(self) -> list[nn.Module]:
        return [module for module in self.body.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]

    def train(self, mode: bool = True) -> "Pyramid":
        """Set training mode, except for batch norms: their pretrained statistics beat those of small batches."""
        super().train(mode)
        for module in self._norms():
            module.eval()
        return self

    def forward(self, images_NCHW: torch.Tensor) -> dict[str, torch.Tensor]:
        """Feature maps by level."""
        maps: dict[str, torch.Tensor] = self.neck({str(level): features for level, features in enumerate(self.body(images_NCHW))})
        return maps


class FasterRcnn(nn.Module):
    """The detector as the training loop sees it.

    Args:
        backbone: of `Pyramid`.
        num_classes: brands; class 0 is the background.
        min_confidence: detections below are not given.
        pretrained: whether the backbone loads its weights.
    """

    def __init__(self, backbone: str, num_classes: int, min_confidence: float, pretrained: bool) -> None:
        super().__init__()
        pyramid = Pyramid(backbone, pretrained)
        self.network = FasterRCNN(
            pyramid,
            rpn_anchor_generator=AnchorGenerator(ANCHORS, (RATIOS,) * len(ANCHORS)),
            box_roi_pool=MultiScaleRoIAlign([str(level) for level in range(len(LEVELS))], POOLED, sampling_ratio=2),
            box_head=TwoMLPHead(CHANNELS * POOLED**2, HIDDEN),
            box_predictor=FastRCNNPredictor(HIDDEN, num_classes + 1),
            image_mean=pyramid.mean,
            image_std=pyramid.std,
            box_score_thresh=min_confidence,
            _skip_resize=True,
            **PROPOSALS,
        )

    def forward(self, images: torch.Tensor, boxes: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        """Sum over the images of the four losses of Ren et al. (2015), eq. 1, for proposals and for boxes.

        Args:
            images: uint8 (N, 3, S, S).
            boxes: float32 (N, M, 4), x1 y1 x2 y2 in pixels.
            classes: int64 (N, M), 0 where there is no mark.

        Returns:
            float32 scalar.
        """
        targets = [{"boxes": some[known > 0], "labels": known[known > 0]} for some, known in zip(boxes, classes, strict=True)]
        losses = self.network(list(images.float() / 255), targets)
        total: torch.Tensor = torch.stack(list(losses.values())).sum() * len(images)
        return total


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
