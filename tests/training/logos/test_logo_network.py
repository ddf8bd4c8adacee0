"""The detector's network: what it sees, what it learns with, and what stays as it was pretrained."""

import numpy as np
import pytest
import torch

from upheld.common.errors import BadUse
from upheld.training.logos.faster_rcnn import FasterRcnnBackend
from upheld.training.logos.network import ANCHORS, REGION, SHARED, FasterRcnn
from upheld.training.loop.optimizer import build_optimizer

SIZE = 96


@pytest.fixture(scope="module")
def network() -> FasterRcnn:
    torch.manual_seed(0)
    return FasterRcnn("efficientnet-lite0", 3, SIZE, 0.0, pretrained=True)


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    images = torch.randint(0, 255, (2, 3, SIZE, SIZE), dtype=torch.uint8)
    boxes = torch.tensor([[[10.0, 10, 50, 50], [0, 0, 0, 0]], [[20, 30, 90, 80], [0, 0, 0, 0]]])
    return images, boxes, torch.tensor([[1, 0], [3, 0]])


def test_pictures_have_the_same_scale_in_training_and_in_detection(network) -> None:
    """torchvision enlarges pictures to 800 pixels in detection unless it is told their size: then nothing is found."""
    seen: list[torch.Size] = []
    hook = network.network.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape))
    network.train()(*batch())
    found = FasterRcnnBackend(network, {}).detect(np.zeros((2, SIZE, SIZE, 3), np.uint8))
    hook.remove()
    assert seen == [torch.Size((2, 3, SIZE, SIZE))] * 2
    assert len(found) == 2 and all((marks.boxes >= 0).all() and (marks.boxes <= SIZE).all() for marks in found)


def test_maps_shrink_by_their_stride(network) -> None:
    maps = network.network.backbone(torch.rand(1, 3, SIZE, SIZE))
    assert {name: SIZE // tensor.shape[-1] for name, tensor in maps.items()} == {"8": 8, "16": 16, "32": 32, SHARED: 8}
    assert set(ANCHORS) | {SHARED} == set(maps)


def test_a_region_is_seen_as_the_backbone_sees_a_picture(network) -> None:
    """Trunk and upper part together are the pretrained network: oracle is the whole of it on a picture of 112 pixels."""
    from upheld.feature_store.backbones.image import load_image_backbone

    whole = load_image_backbone("efficientnet-lite0").network.eval()
    picture = torch.rand(1, 3, 8 * REGION, 8 * REGION)
    network.eval()
    with torch.inference_mode():
        vector = network.network.roi_heads.box_head(network.network.backbone(picture)[SHARED])
        assert vector.shape == (1, network.network.roi_heads.box_head.num_features)
        seen = whole(picture).numpy()
        assert vector[:, : seen.shape[1]].numpy() == pytest.approx(seen, abs=1e-4)


def test_the_trunk_stays_and_the_rest_learns(network) -> None:
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    optimizer = build_optimizer(network, 1e-2, 1e-2, 1.0, 0.0)
    network.train()(*batch()).backward()
    optimizer.step()
    changed = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    for part, learns in (("backbone.body", False), ("backbone.neck", True), ("rpn.head", True), ("box_head.blocks", True)):
        assert any(f".{part}." in name for name in changed) == learns
    assert not any("running_" in name for name in changed)
    assert {f"network.roi_heads.box_predictor.{name}.weight" for name in ("cls_score", "bbox_pred")} <= changed
    network.load_state_dict(before)


def test_only_new_layers_learn_at_the_rate_of_the_head(network) -> None:
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    optimizer = build_optimizer(network, 1e-4, 1e-3, 1.0, 0.0)
    rates = {names[id(parameter)]: group["base_lr"] for group in optimizer.param_groups for parameter in group["params"]}
    assert {rate for name, rate in rates.items() if ".box_head.blocks." in name or ".box_head.conv_head." in name} == {1e-4}
    assert {rate for name, rate in rates.items() if ".box_head." not in name or ".place." in name} == {1e-3}


def test_another_family_of_backbones_is_refused() -> None:
    with pytest.raises(BadUse, match=r"logo\.backbone: 'resnet18' is no EfficientNet"):
        FasterRcnn("resnet18", 3, SIZE, 0.0, pretrained=False)
