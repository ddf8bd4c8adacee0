"""The image classifier as a thing on disk and in memory: a network, and the mean of its logits over a post's images."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import nn

from feature_store.atomic import write_json
from feature_store.backbones.devices import best_device
from feature_store.backbones.image import Backbone, empty_image_backbone, load_image_backbone, to_tensor
from feature_store.backbones.pretrained import image_origin
from feature_store.errors import FailedWork
from feature_store.extractors.image_decoding import Picture, decode_square

Array = NDArray[np.float32]
ReadImage = Callable[[str], bytes]  # digest of an accepted image -> its bytes
ReadImages = Callable[[Sequence[str]], Iterable[tuple[str, bytes]]]  # the same for many, in any order


@dataclass(frozen=True)
class ImageSetup:
    """What turns an image into the model's input (`size` in pixels, channel `mean` and `std`), and which outputs it has."""

    backbone: str
    backbone_digest: str
    policies: tuple[str, ...]
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


class ImageModel(nn.Module):
    """Network, dropout, linear head; a post with several images gets the mean of their logits."""

    def __init__(self, backbone: Backbone, setup: ImageSetup, dropout: float = 0.0) -> None:
        """Args: a network with its number of features; the setup; dropout share before the head."""
        super().__init__()
        self.network = backbone.network.to(memory_format=torch.channels_last)  # a third faster on CPUs
        self.setup = setup
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(backbone.num_features, len(setup.policies))

    def train(self, mode: bool = True) -> "ImageModel":
        """Set training mode, except for batch norms: their pretrained statistics beat those of small batches."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def forward(self, pixels: torch.Tensor, post: torch.Tensor, num_images: torch.Tensor) -> torch.Tensor:
        """Logits of posts.

        Args:
            pixels: float32 (I, 3, H, W), all images of the batch.
            post: int64 (I,), the row of the batch that each image belongs to.
            num_images: float32 (N,), images per post, at least 1.

        Returns:
            float32 (N, C).
        """
        logits_IC = self.head(self.dropout(self.network(pixels))).float()
        owner_NI = (torch.arange(len(num_images), device=post.device)[:, None] == post[None, :]).float()
        logits_NC: torch.Tensor = (owner_NI @ logits_IC) / num_images[:, None]
        return logits_NC

    def collate(self, pictures: Sequence[Sequence[Picture]]) -> dict[str, torch.Tensor]:
        """Batch the decoded pictures of N posts, one list of uint8 (size, size, 3) a post, none of them empty."""
        flat = np.stack([picture for post in pictures for picture in post])
        counts = np.array([len(post) for post in pictures])
        return {
            "pixels": to_tensor(torch.from_numpy(flat), self.setup.mean, self.setup.std),
            "post": torch.from_numpy(np.repeat(np.arange(len(counts)), counts)),
            "num_images": torch.from_numpy(counts.astype(np.float32)),
        }


def build_image(backbone: str, policies: Sequence[str], size: int, dropout: float) -> ImageModel:
    """A classifier on a pretrained network, its head zero: every probability starts at one half.

    Raises:
        BadUse: the backbone cannot be loaded.
        FailedWork: packaged weights are missing.
    """
    loaded = load_image_backbone(backbone)
    model = ImageModel(loaded, ImageSetup(backbone, image_origin(backbone), tuple(policies), size, loaded.mean, loaded.std), dropout)
    nn.init.zeros_(model.head.weight)
    nn.init.zeros_(model.head.bias)
    return model


def save_image(model: ImageModel, folder: Path, metadata: dict[str, Any]) -> None:
    """Write a model into an existing folder: model.safetensors and metadata.json (metrics, params, setup)."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, folder / "model.safetensors")
    write_json(folder / "metadata.json", {**metadata, "trained": True, "setup": asdict(model.setup)})


def save_untrained_image(folder: Path, reason: str, policies: Sequence[str]) -> None:
    """Write the honest absence of a model: metadata.json alone, with `trained` false and the reason."""
    write_json(folder / "metadata.json", {"trained": False, "reason": reason, "policies": list(policies)})


def load_image(folder: Path) -> ImageModel | None:
    """Load a model that `save_image` wrote, ready to predict on the best device here; None where there was nothing to train on.

    Raises:
        FailedWork: the folder is not such a model, or a file of it is damaged.
    """
    try:
        metadata = json.loads((folder / "metadata.json").read_text(encoding="utf-8"))
        if not metadata["trained"]:
            return None
        fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in metadata["setup"].items()}
        setup = ImageSetup(**fields)
        model = ImageModel(empty_image_backbone(setup.backbone), setup)
        model.load_state_dict(load_file(folder / "model.safetensors"))
    except Exception as error:  # safetensors and timm raise types of their own, some plain Exception
        raise FailedWork(f"{folder}: not a readable image model ({error}); run the stage image again") from error
    return model.to(best_device()).eval()


def predict_image(model: ImageModel, posts: Sequence[Sequence[str]], read: ReadImage, batch_size: int = 32) -> Array:
    """Probability of violation of each policy for each post's images.

    Args:
        model: from `load_image` (or in training).
        posts: for each of N posts the digests of its images; may be empty.
        read: gives an image's bytes by digest.
        batch_size: posts in one forward pass.

    Returns:
        float32 (N, C) in [0, 1], columns in the order of `model.setup.policies`; NaN rows for posts without images.
    """
    probabilities = np.full((len(posts), len(model.setup.policies)), np.nan, np.float32)
    shown = [row for row, digests in enumerate(posts) if digests]
    for start in range(0, len(shown), batch_size):
        rows = shown[start : start + batch_size]
        pictures = [[decode_square(read(name), model.setup.size) for name in posts[row]] for row in rows]
        probabilities[rows] = predict_pictures(model, pictures)
    return probabilities


def predict_pictures(model: ImageModel, posts: Sequence[Sequence[Picture]], batch_size: int = 32) -> Array:
    """Probability of violation of each policy for each post's decoded pictures.

    Args:
        model: a classifier.
        posts: for each of N posts its pictures, uint8 (size, size, 3); at least one.
        batch_size: posts in one forward pass.

    Returns:
        float32 (N, C) in [0, 1].
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    probabilities = np.zeros((len(posts), len(model.setup.policies)), np.float32)
    with torch.inference_mode():
        for start in range(0, len(posts), batch_size):
            inputs = {name: tensor.to(device) for name, tensor in model.collate(posts[start : start + batch_size]).items()}
            probabilities[start : start + batch_size] = torch.sigmoid(model(**inputs)).cpu().numpy()
    model.train(was_training)
    return probabilities
