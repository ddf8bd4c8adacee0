"""Without downloaded weights: random ones, against torchvision's own preprocessing."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models.video import R3D_18_Weights, r3d_18

from tests.feature_store.deliveries import parameters
from tests.feature_store.extractors import clips
from upheld.common.errors import BadUse
from upheld.feature_store.extractors.video.action import Action


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    network = r3d_18(weights=None).eval()
    file = tmp_path_factory.mktemp("weights") / "r3d.safetensors"
    save_file(network.state_dict(), file)
    network.fc = torch.nn.Identity()
    return file, network


def counting(num_frames: int, width: int = 171, height: int = 128) -> list:
    """Frames whose brightness is their number, 4 levels apart."""
    return [np.full((height, width, 3), number * 4, np.uint8) for number in range(num_frames)]


def lossless(pictures: list, frames_per_s: int) -> bytes:
    return clips.video(pictures, frames_per_s, "ffv1", "matroska", "bgr0")


def test_off_unless_weights_are_named() -> None:
    assert "action.pretrained" in (Action(parameters()).unavailable() or "")
    assert "no file" in (Action(parameters("action.pretrained=/nowhere/r3d.safetensors")).unavailable() or "")
    assert Action(parameters("action.pretrained=KINETICS400_V1")).unavailable() is None
    extractor = Action(parameters("action.pretrained=KINETICS_OF_OLD"))
    with pytest.raises(BadUse, match="KINETICS400_V1"):
        extractor.extract([{"clips": np.zeros((1, 16, 112, 112, 3), np.uint8)}])


def test_clips_are_sixteen_frames_at_fifteen_a_second() -> None:
    extractor = Action(parameters("action.max_clips=3"))
    shown = extractor.decode(lossless(counting(60), 30))["clips"]
    assert shown.shape == (2, 16, 112, 112, 3)
    assert (shown[0, :, 50, 50, 0] // 4).tolist() == list(range(0, 32, 2))
    slow = extractor.decode(lossless(counting(5), 5))["clips"]
    assert (slow[0, :, 50, 50, 0] // 4).tolist() == [0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 4, 4, 4]
    assert len(extractor.decode(lossless(counting(60, 32, 32), 5))["clips"]) <= 3


def test_embedding_is_torchvisions(weights) -> None:
    file, network = weights
    extractor = Action(parameters(f"action.pretrained={file}"))
    pictures = clips.scene(np.random.default_rng(0), 16, 171, 128)
    (row,) = extractor.extract([extractor.decode(lossless(pictures, 15))])
    pa.Table.from_pylist([row], schema=extractor.columns)
    prepare = R3D_18_Weights.KINETICS400_V1.transforms()
    with torch.inference_mode():
        expected = network(prepare(torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2))[None])[0]
    cosine = torch.nn.functional.cosine_similarity(torch.tensor(row["embedding"]), expected, dim=0)
    assert cosine > 0.9999
    assert np.linalg.norm(row["embedding"]) == pytest.approx(1, abs=1e-5)


def test_version_follows_the_weights(weights) -> None:
    named = Action(parameters(f"action.pretrained={weights[0]}"))
    assert named.version != Action(parameters("action.pretrained=KINETICS400_V1")).version
    assert named.version.startswith("1-")
