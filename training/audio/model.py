"""The sound classifier as a thing on disk and in memory: a small convolutional network over log-mel spectrograms.

Batches are padded, and nothing that a sound gives depends on its neighbours: padding is put back to silence (zero) after every layer,
where a convolution's own border is, and norms look at one place at a time.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from upheld.common.errors import FailedWork
from upheld.feature_store.backbones.devices import best_device
from upheld.feature_store.contracts.tables import NUM_BANDS
from upheld.feature_store.features.media import Spectrogram
from upheld.training.loop import tensor_file

Array = NDArray[np.float32]
MIN_STD = 0.1  # of a band's log energies: below it a band is silent, and scaling it up would amplify rounding


@dataclass(frozen=True)
class AudioSetup:
    """What turns a spectrogram into the model's input (`mean` and `std` of each band, in log energy), and which outputs it has."""

    policies: tuple[str, ...]
    channels: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


class _Block(nn.Module):
    """Convolution that halves time and bands, norm over the channels of each place, ReLU."""

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(num_in, num_out, 3, stride=2, padding=1)
        self.norm = nn.LayerNorm(num_out)

    def forward(self, x_NCTF: torch.Tensor) -> torch.Tensor:
        normed_NTFC = self.norm(self.convolution(x_NCTF).permute(0, 2, 3, 1))
        return functional.relu(normed_NTFC).permute(0, 3, 1, 2)


class AudioModel(nn.Module):
    """Blocks, mean and maximum over time, dropout, linear head; a post with several sounds gets the mean of their logits.

    The mean hears what goes on all the time, the maximum what happens once.
    """

    def __init__(self, setup: AudioSetup, dropout: float = 0.0) -> None:
        """Args: the setup; dropout share before the head."""
        super().__init__()
        self.setup = setup
        self.blocks = nn.ModuleList(_Block(*pair) for pair in zip((1, *setup.channels), setup.channels, strict=False))
        num_bands = NUM_BANDS
        for _ in setup.channels:
            num_bands = -(-num_bands // 2)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * setup.channels[-1] * num_bands, len(setup.policies))

    def new_parameters(self) -> list[nn.Parameter]:
        """The head; the blocks start from random weights too, but learn at the rates of a backbone."""
        return list(self.head.parameters())

    def forward(self, log_mel: torch.Tensor, num_frames: torch.Tensor, post: torch.Tensor, num_sounds: torch.Tensor) -> torch.Tensor:
        """Logits of posts.

        Args:
            log_mel: float32 (S, T, 64), scaled, all sounds of the batch; 0 where a sound has ended.
            num_frames: int64 (S,), frames of each sound, at least 1.
            post: int64 (S,), the row of the batch that each sound belongs to.
            num_sounds: float32 (N,), sounds per post, at least 1.

        Returns:
            float32 (N, C).
        """
        x_SCTF, lengths_S = log_mel[:, None], num_frames
        for block in self.blocks:
            lengths_S = (lengths_S + 1) // 2
            x_SCTF = block(x_SCTF)
            there_S1T1 = (torch.arange(x_SCTF.shape[2], device=lengths_S.device)[None] < lengths_S[:, None])[:, None, :, None]
            x_SCTF = x_SCTF * there_S1T1
        mean_SCF = x_SCTF.sum(2) / lengths_S[:, None, None]
        pooled_SD = torch.cat([mean_SCF, x_SCTF.amax(2)], 1).flatten(1)  # after ReLU padding never is the largest
        logits_SK = self.head(self.dropout(pooled_SD)).float()
        owner_NS = (torch.arange(len(num_sounds), device=post.device)[:, None] == post[None, :]).float()
        logits_NK: torch.Tensor = (owner_NS @ logits_SK) / num_sounds[:, None]
        return logits_NK

    def collate(self, sounds: Sequence[Sequence[Spectrogram]]) -> dict[str, torch.Tensor]:
        """Batch the spectrograms of N posts, one list of float16 (T, 64) a post, none of them empty."""
        flat = [sound for post in sounds for sound in post]
        lengths = np.array([len(sound) for sound in flat])
        padded = np.zeros((len(flat), lengths.max(), NUM_BANDS), np.float32)
        mean, std = (np.array(part, np.float32) for part in (self.setup.mean, self.setup.std))
        for row, sound in enumerate(flat):
            padded[row, : len(sound)] = (sound.astype(np.float32) - mean) / std
        counts = np.array([len(post) for post in sounds])
        return {
            "log_mel": torch.from_numpy(padded),
            "num_frames": torch.from_numpy(lengths),
            "post": torch.from_numpy(np.repeat(np.arange(len(counts)), counts)),
            "num_sounds": torch.from_numpy(counts.astype(np.float32)),
        }


def build_audio(policies: Sequence[str], channels: Sequence[int], dropout: float, sounds: Iterable[Spectrogram]) -> AudioModel:
    """A classifier with random weights, its head zero, that scales its input by what it is to learn from.

    Args:
        policies: its outputs.
        channels: of each block.
        dropout: share before the head.
        sounds: float16 (T, 64), at least one; taken one by one.
    """
    num, total, squares = 0, np.zeros(NUM_BANDS), np.zeros(NUM_BANDS)
    for sound in sounds:
        values = sound.astype(np.float64)
        num, total, squares = num + len(values), total + values.sum(0), squares + (values**2).sum(0)
    mean = total / num
    std = np.sqrt(np.maximum(squares / num - mean**2, MIN_STD**2))
    model = AudioModel(AudioSetup(tuple(policies), tuple(channels), tuple(mean.tolist()), tuple(std.tolist())), dropout)
    nn.init.zeros_(model.head.weight)
    nn.init.zeros_(model.head.bias)
    return model


def load_audio(folder: Path) -> AudioModel | None:
    """Load a model that the stage wrote, ready to predict on the best device here; None where there was nothing to train on.

    Raises:
        FailedWork: the folder is not such a model, or a file of it is damaged.
    """
    try:
        metadata = json.loads((folder / "metadata.json").read_text(encoding="utf-8"))
        if not metadata["trained"]:
            return None
        model = AudioModel(AudioSetup(**{key: tuple(value) for key, value in metadata["setup"].items()}))
        model.load_state_dict(load_file(tensor_file.saved(folder)))
    except Exception as error:  # safetensors raises types of its own, some plain Exception
        raise FailedWork(f"{folder}: not a readable audio model ({error}); run the stage audio again") from error
    return model.to(best_device()).eval()


def predict_audio(model: AudioModel, posts: Sequence[Sequence[str]], sound: Callable[[str], Spectrogram], batch_size: int = 32) -> Array:
    """Probability of violation of each policy for each post's sounds.

    Args:
        model: from `load_audio` (or in training).
        posts: for each of N posts the digests of its sounds; may be empty.
        sound: gives the spectrogram of a digest, float16 (T, 64), T at least 1.
        batch_size: posts in one forward pass.

    Returns:
        float32 (N, C) in [0, 1], columns in the order of `model.setup.policies`; NaN rows for posts without sound.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    probabilities = np.full((len(posts), len(model.setup.policies)), np.nan, np.float32)
    heard = [row for row, digests in enumerate(posts) if digests]
    with torch.inference_mode():
        for start in range(0, len(heard), batch_size):
            rows = heard[start : start + batch_size]
            inputs = model.collate([[sound(name) for name in posts[row]] for row in rows])
            probabilities[rows] = torch.sigmoid(model(**{name: tensor.to(device) for name, tensor in inputs.items()})).cpu().numpy()
    model.train(was_training)
    return probabilities
