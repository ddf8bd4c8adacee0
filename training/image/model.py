"""The image classifier as a thing on disk and in memory: a network, and how its logits for pictures become one for a post.

Stills count alike: the mean of their logits. The key frames of a post's videos count together as one more picture, by the largest
logit of each policy: two seconds of it make a video a violation, and a mean over the frames would drown them. That the largest of
many is larger by chance is left to fusion and calibration, which are fitted on such values.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import nn

from upheld.common.errors import FailedWork
from upheld.feature_store.backbones.devices import best_device
from upheld.feature_store.backbones.folding import folded
from upheld.feature_store.backbones.image import Backbone, empty_image_backbone, load_image_backbone, to_tensor
from upheld.feature_store.backbones.pretrained import image_origin
from upheld.feature_store.decoding.images import Picture, decode_square
from upheld.training.loop import tensor_file
from upheld.training.loop.head import NONE_KNOWN

Array = NDArray[np.float32]
ReadImage = Callable[[str], bytes]  # digest of an accepted image -> its bytes


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
    """Network, dropout, linear head; over a post's pictures as the module says."""

    def __init__(self, backbone: Backbone, setup: ImageSetup, dropout: float = 0.0) -> None:
        """Args: a network with its number of features; the setup; dropout share before the head."""
        super().__init__()
        self.network = backbone.network.to(memory_format=torch.channels_last)  # a third faster on CPUs
        self.setup = setup
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(backbone.num_features, len(setup.policies))

    def new_parameters(self) -> list[nn.Parameter]:
        """What stands over the pretrained network."""
        return list(self.head.parameters())

    def train(self, mode: bool = True) -> "ImageModel":
        """Set training mode, except for batch norms: their pretrained statistics beat those of small batches."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def forward(self, pixels: torch.Tensor, unit: torch.Tensor, post: torch.Tensor, num_units: torch.Tensor) -> torch.Tensor:
        """Logits of posts. A unit is a still, or all frames of a post's videos.

        Args:
            pixels: float32 (I, 3, H, W), all pictures of the batch.
            unit: int64 (I,), the unit that each picture belongs to.
            post: int64 (U,), the row of the batch that each unit belongs to.
            num_units: float32 (N,), units per post, at least 1.

        Returns:
            float32 (N, C).
        """
        logits_IC = self.head(self.dropout(self.network(pixels))).float()
        member_UI = torch.arange(len(post), device=unit.device)[:, None] == unit[None, :]
        logits_UC = logits_IC[None].masked_fill(~member_UI[:, :, None], float("-inf")).amax(1)
        owner_NU = (torch.arange(len(num_units), device=post.device)[:, None] == post[None, :]).float()
        logits_NC: torch.Tensor = (owner_NU @ logits_UC) / num_units[:, None]
        return logits_NC

    def collate(self, pictures: Sequence[Sequence[Picture]], num_frames: Sequence[int] | None = None) -> dict[str, torch.Tensor]:
        """Batch the decoded pictures of N posts.

        Args:
            pictures: one list of uint8 (size, size, 3) a post, none of them empty.
            num_frames: how many of each post's pictures, its last ones, are frames of its videos; None: none of any.
        """
        flat = np.stack([picture for post in pictures for picture in post])
        frames = num_frames if num_frames is not None else [0] * len(pictures)
        stills = [len(post) - number for post, number in zip(pictures, frames, strict=True)]
        units_of = [[*range(still), *[still] * number] for still, number in zip(stills, frames, strict=True)]
        num_units = np.array([units[-1] + 1 for units in units_of])
        first = np.cumsum(num_units) - num_units
        return {
            "pixels": to_tensor(torch.from_numpy(flat), self.setup.mean, self.setup.std),
            "unit": torch.from_numpy(np.concatenate([start + np.array(units) for start, units in zip(first, units_of, strict=True)])),
            "post": torch.from_numpy(np.repeat(np.arange(len(num_units)), num_units)),
            "num_units": torch.from_numpy(num_units.astype(np.float32)),
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


def load_image(folder: Path) -> ImageModel | None:
    """Load a model that the stage wrote, ready to predict on the best device here; None where there was nothing to train on.

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
        model.load_state_dict(load_file(tensor_file.saved(folder)))
    except Exception as error:  # safetensors and timm raise types of their own, some plain Exception
        raise FailedWork(f"{folder}: not a readable image model ({error}); run the stage image again") from error
    model.eval()
    model.network = folded(model.network, setup.size)
    return model.to(best_device())


def predict_image(
    model: ImageModel, posts: Sequence[Sequence[str]], read: ReadImage, num_frames: Sequence[int] | None = None, batch_size: int = 32
) -> Array:
    """As `predict_pictures`, from the files' bytes, which `read` gives by digest."""
    return predict_pictures(model, posts, lambda name: decode_square(read(name), model.setup.size), num_frames, batch_size)


def predict_pictures(
    model: ImageModel,
    posts: Sequence[Sequence[str]],
    picture: Callable[[str], Picture],
    num_frames: Sequence[int] | None = None,
    batch_size: int = 32,
) -> Array:
    """Probability of violation of each policy for each post's pictures.

    Args:
        model: from `load_image` (or in training).
        posts: for each of N posts the digests of its pictures; may be empty.
        picture: gives the decoded picture of a digest, uint8 (size, size, 3).
        num_frames: how many of each post's pictures, its last ones, are frames of its videos; None: none of any.
        batch_size: pictures in memory and in one forward pass; those of a single post may be more.

    Returns:
        float32 (N, C) in [0, 1], columns in the order of `model.setup.policies`; NaN rows for posts without pictures.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    probabilities = np.full((len(posts), len(model.setup.policies)), np.nan, np.float32)
    shown = [row for row, digests in enumerate(posts) if digests]
    with torch.inference_mode():
        for part in batches([len(posts[row]) for row in shown], batch_size):
            rows = [shown[place] for place in part]
            frames = None if num_frames is None else [num_frames[row] for row in rows]
            inputs = model.collate([[picture(name) for name in posts[row]] for row in rows], frames)
            logits = model(**{name: tensor.to(device) for name, tensor in inputs.items()})
            probabilities[rows] = torch.sigmoid(logits).cpu().numpy()
    model.train(was_training)
    return probabilities


def picture_features(
    model: ImageModel,
    posts: Sequence[Sequence[str]],
    picture: Callable[[str], Picture],
    num_frames: Sequence[int],
    known: Mapping[str, Array] = NONE_KNOWN,
    batch_size: int = 32,
) -> Array:
    """What the head is fitted on of each post: the mean over its stills and, as one more, the mean over its frames.

    Args:
        model: from `load_image` (or in training).
        posts: for each of N posts the digests of its pictures, at least one.
        picture: gives the decoded picture of a digest, uint8 (size, size, 3).
        num_frames: how many of each post's pictures, its last ones, are frames of its videos.
        known: digest -> features of a picture, float32 (F,), which need not be computed.
        batch_size: pictures in one forward pass.

    Returns:
        float32 (N, F). The model's logits for a post that shows stills alone are the head's of these features; of frames the model
        heeds the one with the largest logit.
    """
    vectors = dict(known)
    device = next(model.parameters()).device
    new = sorted({name for names in posts for name in names} - known.keys())
    model.eval()
    with torch.inference_mode():
        for start in range(0, len(new), batch_size):
            names = new[start : start + batch_size]
            pixels = torch.from_numpy(np.stack([picture(name) for name in names]))
            found = model.network(to_tensor(pixels.to(device), model.setup.mean, model.setup.std)).float().cpu().numpy()
            vectors |= dict(zip(names, found, strict=True))
    features = np.empty((len(posts), model.head.in_features), np.float32)
    for row, (shown, number) in enumerate(zip(posts, num_frames, strict=True)):
        stills, frames = shown[: len(shown) - number], shown[len(shown) - number :]
        units = [vectors[name] for name in stills] + ([np.mean([vectors[name] for name in frames], axis=0)] if frames else [])
        features[row] = np.mean(units, axis=0)
    return features


def batches(counts: Sequence[int], batch_size: int) -> Iterator[range]:
    """Rows in a row whose counts together stay within `batch_size`, at least one a batch."""
    start = total = 0
    for row, count in enumerate(counts):
        if row > start and total + count > batch_size:
            yield range(start, row)
            start, total = row, 0
        total += count
    if start < len(counts):
        yield range(start, len(counts))
