"""Attacks on the pictures of posts: white-box by the image classifier's gradient, a few single pixels, and JPEG compression.

All but the last work on values in [0, 1] of the pictures as the classifier sees them, squeezed into its square, before their means are
taken off. What an attack raises is the binary cross-entropy of one policy's logit against the label: a violation is pushed down, what is
none is pushed up. A post's pictures are attacked together.
Sources: Goodfellow, Shlens & Szegedy (2015), Explaining and Harnessing Adversarial Examples (FGSM); Madry et al. (2018), Towards Deep
Learning Models Resistant to Adversarial Attacks (PGD); Su, Vargas & Sakurai (2019), One Pixel Attack for Fooling Deep Neural Networks,
here by random search in place of differential evolution.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import binary_cross_entropy_with_logits

from upheld.common.arrays import Bools, Floats32, Ints
from upheld.feature_store.decoding.images import Picture
from upheld.training.image.model import ImageModel

STEP = 2.5  # of PGD, times eps / steps: the border of the ball is reached from anywhere in it. Source: Madry et al., 2018, appendix


@dataclass(frozen=True)
class Batch:
    """Posts under attack, on the classifier's device.

    Attributes:
        model: in evaluation mode.
        pixels: float32 (I, 3, H, W) in [0, 1], all pictures of the posts.
        place: what `ImageModel.forward` takes besides: unit, post, num_units.
        owner: int64 (I,), the row of the post that each picture belongs to.
        column: int64 (N,), the policy of each post's attack.
        label: float32 (N,), 1 for a violation.
    """

    model: ImageModel
    pixels: torch.Tensor
    place: dict[str, torch.Tensor]
    owner: torch.Tensor
    column: torch.Tensor
    label: torch.Tensor

    def logits(self, pixels: torch.Tensor) -> torch.Tensor:
        """Logit of each post's policy, float32 (N,), with these pixels in place of its own."""
        setup = self.model.setup
        mean, std = (torch.tensor(values, device=pixels.device).reshape(1, -1, 1, 1) for values in (setup.mean, setup.std))
        logits_N: torch.Tensor = self.model((pixels - mean) / std, **self.place).gather(1, self.column[:, None])[:, 0]
        return logits_N

    def losses(self, pixels: torch.Tensor) -> torch.Tensor:
        """Binary cross-entropy of each post, float32 (N,): what an attack raises."""
        return binary_cross_entropy_with_logits(self.logits(pixels), self.label, reduction="none")

    def gradient(self, pixels: torch.Tensor) -> torch.Tensor:
        """Of the sum of all losses by the pixels; as no post's loss depends on another's pixels, each post's own."""
        leaf = pixels.detach().requires_grad_()
        (slope,) = torch.autograd.grad(self.losses(leaf).sum(), leaf)
        return slope


def batch_of(model: ImageModel, pictures: Sequence[Sequence[Picture]], num_frames: Sequence[int], column: Ints, label: Bools) -> Batch:
    """Put posts side by side.

    Args:
        model: in evaluation mode.
        pictures: one list of uint8 (size, size, 3) a post, none of them empty.
        num_frames: how many of each post's pictures, its last ones, are frames of its videos.
        column: int64 (N,), which of the model's policies each post's attack is about.
        label: bool (N,), whether the post is a violation of it.
    """
    device = next(model.parameters()).device
    place = {name: tensor.to(device) for name, tensor in model.collate(pictures, num_frames).items() if name != "pixels"}
    flat = torch.from_numpy(np.stack([picture for post in pictures for picture in post])).to(device)
    pixels = flat.permute(0, 3, 1, 2).float().div_(255)
    owner = torch.from_numpy(np.repeat(np.arange(len(pictures)), [len(post) for post in pictures]))
    told = (torch.from_numpy(column), torch.from_numpy(label.astype(np.float32)))
    return Batch(model, pixels, place, owner.to(device), *(tensor.to(device) for tensor in told))


def fgsm(batch: Batch, eps: float) -> torch.Tensor:
    """One step of `eps` along the sign of the gradient: float32 (I, 3, H, W) in [0, 1], within `eps` of the batch's pixels."""
    return (batch.pixels + eps * batch.gradient(batch.pixels).sign()).clamp(0, 1)


def pgd(batch: Batch, eps: float, steps: int, draws: Sequence[np.random.Generator]) -> torch.Tensor:
    """Steps along the sign of the gradient, each brought back into the ball, from a random place in it.

    Args:
        batch: posts under attack.
        eps: radius of the ball, of the largest change of any value.
        steps: gradients taken.
        draws: source of chance of each post.

    Returns:
        as `fgsm`. Where a slope is next to nothing, rounding decides on its sign, and so do the posts beside it: the same post in another
        batch may differ in one value of a thousand.
    """
    shape = tuple(batch.pixels.shape[1:])
    noise = np.stack([draws[row].uniform(-eps, eps, shape).astype(np.float32) for row in batch.owner.tolist()])
    low, high = (batch.pixels - eps).clamp(0, 1), (batch.pixels + eps).clamp(0, 1)
    pixels = (batch.pixels + torch.from_numpy(noise).to(batch.pixels.device)).clamp(low, high)
    for _ in range(steps):
        pixels = (pixels + STEP * eps / steps * batch.gradient(pixels).sign()).clamp(low, high)
    return pixels


def single_pixels(batch: Batch, number: int, queries: int, draws: Sequence[np.random.Generator]) -> tuple[torch.Tensor, Ints]:
    """Change single pixels of each picture to extreme colours, by random search: each query moves one pixel, and stays where it helps.

    Args:
        batch: posts under attack.
        number: pixels of each picture that may change.
        queries: scores asked for a post, at least one.
        draws: source of chance of each post.

    Returns:
        float32 (I, 3, H, W) in [0, 1], and int64 (N,): the pixels of each post that differ from before.
    """
    size = batch.pixels.shape[-1]
    owners = batch.owner.tolist()

    def drawn(row: int) -> tuple[list[int], list[float]]:
        return draws[row].integers(0, size, 2).tolist(), draws[row].integers(0, 2, 3).astype(float).tolist()

    best = [[drawn(row) for _ in range(number)] for row in owners]
    with torch.inference_mode():
        pixels, losses = batch.pixels, batch.losses(batch.pixels)
        for query in range(queries):
            tried = [[*spots] for spots in best]
            if query:
                for picture, row in enumerate(owners):
                    tried[picture][int(draws[row].integers(number))] = drawn(row)
            changed = batch.pixels.clone()
            for picture, spots in enumerate(tried):
                for (top, left), colour in spots:
                    changed[picture, :, top, left] = torch.tensor(colour, device=changed.device)
            now = batch.losses(changed)
            better = (now > losses)[batch.owner]
            pixels, losses = torch.where(better[:, None, None, None], changed, pixels), torch.maximum(now, losses)
            best = [new if helped else old for new, old, helped in zip(tried, best, better.tolist(), strict=True)]
        differ = (pixels != batch.pixels).any(1).sum((1, 2)).cpu().numpy()
    return pixels, np.bincount(batch.owner.cpu().numpy(), weights=differ, minlength=len(batch.label)).astype(np.int64)


def jpeg(picture: Picture, quality: int) -> Picture:
    """A picture after it was stored as JPEG: uint8 (H, W, 3), of that quality from 1 to 95."""
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream), np.uint8)


def probabilities(batch: Batch, pixels: torch.Tensor) -> Floats32:
    """Probability of each post's policy with these pixels, float32 (N,)."""
    with torch.inference_mode():
        probs: Floats32 = torch.sigmoid(batch.logits(pixels)).cpu().numpy()
    return probs
