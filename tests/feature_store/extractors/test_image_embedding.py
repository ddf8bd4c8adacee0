"""Image vectors: as timm's own preprocessing and network make them."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from tests.feature_store.extractors.pictures import blobs, encoded
from upheld.common.errors import BadUse
from upheld.common.params import params
from upheld.feature_store.backbones.pretrained import lite0_weights
from upheld.feature_store.decoding.contract import Undecodable
from upheld.feature_store.extractors.image.embedding import WIDTH, ImageEmbedding


def embedder(*overrides: str) -> ImageEmbedding:
    return ImageEmbedding(params.load(Path("params.yaml"), list(overrides)))


def vectors(extractor: ImageEmbedding, contents: list[bytes]) -> np.ndarray:
    rows = extractor.extract([extractor.decode(content) for content in contents])
    return np.stack([row["embedding"] for row in rows if isinstance(row, dict)])


@pytest.fixture(scope="module")
def ours() -> ImageEmbedding:
    return embedder()


def test_vectors_are_timm_s(ours: ImageEmbedding) -> None:
    packed = torch.load(lite0_weights(), weights_only=True)
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    network.load_state_dict(dict(zip(network.state_dict(), packed.values(), strict=True)))
    images = [blobs(seed, 224, 224) for seed in range(3)]
    pixels = torch.stack([torch.from_numpy(np.asarray(image, np.float32).transpose(2, 0, 1).copy()) / 127.5 - 1 for image in images])
    with torch.inference_mode():
        theirs = network.forward_head(network.forward_features(pixels), pre_logits=True).numpy()
    found = vectors(ours, [encoded(image, "PNG") for image in images])
    assert found.shape == (3, WIDTH)
    assert (found * theirs).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(theirs, axis=1) == pytest.approx(1, abs=1e-4)


def test_neighbours_do_not_matter_and_runs_agree(ours: ImageEmbedding) -> None:
    contents = [encoded(blobs(seed, 300, 200)) for seed in range(5)]
    together = vectors(ours, contents)
    alone = np.concatenate([vectors(ours, [content]) for content in contents])
    assert np.abs(together - alone).max() < 1e-4 * np.abs(together).max()
    assert (vectors(ours, contents) == together).all()


def test_bfloat16_gives_nearly_the_vectors_of_float32_under_a_version_of_its_own(ours: ImageEmbedding) -> None:
    faster, contents = embedder("image_embedding.lane=bf16"), [encoded(blobs(seed, 224, 224), "PNG") for seed in range(3)]
    unit = [found / np.linalg.norm(found, axis=1, keepdims=True) for found in (vectors(faster, contents), vectors(ours, contents))]
    cosines = (unit[0] * unit[1]).sum(1)
    assert 0.99 < cosines.min() < cosines.max() < 0.9999999
    assert faster.version != ours.version


def test_a_copy_is_nearer_than_another_picture(ours: ImageEmbedding) -> None:
    image = blobs(1)
    copy = encoded(image.resize((480, 360)), "JPEG", quality=70)
    found = vectors(ours, [encoded(image, "PNG"), copy, encoded(Image.new("RGB", (300, 300), "white"))])
    near, far = (found[0] @ found[row] / np.linalg.norm(found[0]) / np.linalg.norm(found[row]) for row in (1, 2))
    assert near > 0.9
    assert far < 0.5


def test_bounds_are_ingest_s() -> None:
    with pytest.raises(Undecodable, match="image_bomb"):
        embedder("ingest.max_media_pixels=99").decode(encoded(Image.new("RGB", (10, 10))))


def test_version_follows_what_changes_results(ours: ImageEmbedding) -> None:
    assert (
        len({ours.version, embedder("image_embedding.size=192").version, embedder("image_embedding.backbone=torchvision/resnet18").version})
        == 3
    )


def test_a_backbone_of_another_width_is_bad_use(monkeypatch: pytest.MonkeyPatch) -> None:
    from upheld.feature_store.backbones import image

    monkeypatch.setattr(image, "load_image_backbone", image.empty_image_backbone)
    other = embedder("image_embedding.backbone=torchvision/resnet18")
    with pytest.raises(BadUse, match=r"image_embedding\.backbone: .* makes vectors of 512, the table holds 1280"):
        vectors(other, [encoded(blobs(1))])
