"""Faster R-CNN for few labels: both what proposes regions and what names their brand stand on a pretrained image backbone.

A backbone of the EfficientNet family is cut where its maps are eight times smaller than the picture. The whole of it, frozen, with a
feature pyramid on top, proposes regions. A second copy of its upper part looks at each region as at a small picture of its own, and learns
the brands: pretrained layers, as in the original, tell 27 brands apart after a few hundred photos; new layers over the pyramid do not.

Source: Ren et al. (2015), Faster R-CNN; Lin et al. (2017), Feature Pyramid Networks for Object Detection.
"""

import math
from collections.abc import Iterator
from copy import deepcopy

import torch
from timm.models.efficientnet import EfficientNet
from torch import nn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import AnchorGenerator, RegionProposalNetwork, RPNHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign

from upheld.common.errors import BadUse
from upheld.feature_store.backbones.image import empty_image_backbone, load_image_backbone

SHARED = "shared"  # the map, eight times smaller than the picture, that regions are cut out of
ANCHORS = {"8": (24, 40), "16": (64, 96), "32": (144, 240)}  # by stride; sides in pixels: half of all marks are 4 % to 33 % of a photo
RATIOS = (0.5, 1.0, 2.0)
CHANNELS = 128  # of the pyramid
PLACE = 32  # channels that say where in a region something lies: the backbone's own features are averages over all of it
REGION = 14  # cells of a region's map: what the upper part gets of a picture of 112 pixels
RPN_IOU = (0.7, 0.3)  # from which an anchor is a mark, and up to which it is none; Source: Ren et al. (2015)
RPN_SAMPLED, RPN_POSITIVE = 256, 0.5  # anchors a photo to learn from, and how many of them may be marks; ditto
BEFORE_NMS, NMS_IOU = {"training": 500, "testing": 300}, 0.7
PROPOSED = {"training": 100, "testing": 20}  # regions a photo: it holds a mark or two; 50 found no more on real photos, 12 nearly as many
MARK_IOU = 0.5  # from which a region is learned as a mark
SAMPLED, POSITIVE = 12, 0.5  # regions a photo to learn from, and how many of them may be marks
OVERLAP, DETECTIONS = 0.5, 50  # detections of a brand that overlap more are one; most detections on a photo


class Trunk(nn.Module):
    """A frozen backbone and the pyramid over it.

    Args:
        backbone: EfficientNet whose weights are loaded.
    """

    def __init__(self, backbone: EfficientNet) -> None:
        super().__init__()
        self.body = nn.ModuleDict({"stem": nn.Sequential(backbone.conv_stem, backbone.bn1)})
        begin, widths = 0, []
        for stride in (8, 16, 32):
            end = _end(backbone, stride)
            self.body[str(stride)] = backbone.blocks[begin:end]
            widths.append(next(int(info["num_chs"]) for info in backbone.feature_info if info["reduction"] == stride))
            begin = end
        self.body.requires_grad_(False)
        self.neck = FeaturePyramidNetwork(widths, CHANNELS)

    def train(self, mode: bool = True) -> "Trunk":
        """Set training mode, but for the frozen body."""
        super().train(mode)
        self.body.eval()
        return self

    def forward(self, images_NCHW: torch.Tensor) -> dict[str, torch.Tensor]:
        """Maps by stride, of one width, and the map that regions are cut out of."""
        maps = {}
        with torch.no_grad():
            features = self.body["stem"](images_NCHW)
            for stride in ANCHORS:
                maps[stride] = features = self.body[stride](features)
        return {**self.neck(maps), SHARED: maps["8"]}


class Proposals(RegionProposalNetwork):  # type: ignore[misc]  # torchvision has no types
    """torchvision's, over the pyramid alone."""

    def forward(
        self, images: ImageList, features: dict[str, torch.Tensor], targets: list[dict[str, torch.Tensor]] | None = None
    ) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
        """Regions of each picture, and in training what they cost."""
        found: tuple[list[torch.Tensor], dict[str, torch.Tensor]] = super().forward(
            images, {stride: features[stride] for stride in ANCHORS}, targets
        )
        return found


class Upper(nn.Module):
    """The upper part of a backbone, its batch norms frozen: from maps of regions to one vector each.

    Args:
        backbone: EfficientNet whose weights are loaded.
    """

    def __init__(self, backbone: EfficientNet) -> None:
        super().__init__()
        self.blocks = deepcopy(backbone.blocks[_end(backbone, 8) :])
        self.conv_head, self.bn2, self.pool = backbone.conv_head, backbone.bn2, backbone.global_pool
        self.place = nn.Conv2d(backbone.conv_head.in_channels, PLACE, 1)
        for module in self._norms():
            module.requires_grad_(False)

    @property
    def num_features(self) -> int:
        """Length of the vectors: the backbone's own features, and PLACE channels of a map four times smaller than the region's."""
        return int(self.conv_head.out_channels) + PLACE * math.ceil(REGION / 4) ** 2

    def _norms(self) -> list[nn.Module]:
        return [module for module in self.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]

    def train(self, mode: bool = True) -> "Upper":
        """Set training mode, except for batch norms: their pretrained statistics beat those of a few regions."""
        super().train(mode)
        for module in self._norms():
            module.eval()
        return self

    def forward(self, regions: torch.Tensor) -> torch.Tensor:
        """float32 (R, C, REGION, REGION) maps to (R, `num_features`) vectors: what the region shows, and where in it."""
        maps = self.blocks(regions)
        return torch.cat([self.pool(self.bn2(self.conv_head(maps))), self.place(maps).flatten(1)], dim=1)


class FasterRcnn(nn.Module):
    """The detector as the training loop sees it.

    Args:
        backbone: `efficientnet-lite0` or NAME@COMMIT of timm, of an EfficientNet.
        num_classes: brands; class 0 is the background.
        size: side of the pictures in pixels.
        min_confidence: detections below are not given.
        pretrained: whether the backbone loads its weights, or they are to be filled from a file.

    Raises:
        BadUse: the backbone is of another family, or its weights cannot be fetched.
    """

    def __init__(self, backbone: str, num_classes: int, size: int, min_confidence: float, pretrained: bool) -> None:
        super().__init__()
        loaded = (load_image_backbone if pretrained else empty_image_backbone)(backbone)
        if not isinstance(loaded.network, EfficientNet):
            raise BadUse(f"logo.backbone: {backbone!r} is no EfficientNet of timm; name one, such as efficientnet-lite0")
        upper = Upper(loaded.network)
        head = FastRCNNPredictor(upper.num_features, num_classes + 1)
        trunk = Trunk(loaded.network)
        anchors = AnchorGenerator(tuple(ANCHORS.values()), (RATIOS,) * len(ANCHORS))
        rpn_head = RPNHead(CHANNELS, anchors.num_anchors_per_location()[0])
        self.network = GeneralizedRCNN(
            trunk,
            Proposals(anchors, rpn_head, *RPN_IOU, RPN_SAMPLED, RPN_POSITIVE, BEFORE_NMS, PROPOSED, NMS_IOU),
            RoIHeads(
                MultiScaleRoIAlign([SHARED], REGION, sampling_ratio=2), upper, head, MARK_IOU, MARK_IOU, SAMPLED, POSITIVE, None,
                min_confidence, OVERLAP, DETECTIONS,
            ),
            GeneralizedRCNNTransform(size, size, list(loaded.mean), list(loaded.std)),
        )  # fmt: skip
        self.to(memory_format=torch.channels_last)  # depthwise convolutions learn twice as fast on a CPU

    def new_parameters(self) -> Iterator[nn.Parameter]:
        """What stands over the pretrained backbone: pyramid, proposals, brands, and where in a region something lies."""
        heads = self.network.roi_heads
        for part in (self.network.backbone.neck, self.network.rpn, heads.box_predictor, heads.box_head.place):
            yield from part.parameters()

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


def _end(backbone: EfficientNet, stride: int) -> int:
    """Number of the first stage after the last one whose maps are `stride` times smaller than the picture."""
    last: str = next(info["module"] for info in backbone.feature_info if info["reduction"] == stride)
    return int(last.removeprefix("blocks.")) + 1
