"""Training that holds against small changes of pixels: half of every loss is of the pictures as an attack would change them."""

from collections.abc import Callable

import torch

from upheld.training.image.model import ImageSetup
from upheld.training.loop.batches import Inputs

STEP = 1.25  # of the one step, in radii. Source: Wong et al., 2020


def adversarial_loss(loss: Callable[[Inputs], torch.Tensor], inputs: Inputs, setup: ImageSetup, eps: float) -> torch.Tensor:
    """The mean of two losses: of pictures with noise, and of pictures moved once against the model from there.

    Args:
        loss: of the model's inputs, a scalar.
        inputs: what the model takes, `pixels` among it: float32 (I, 3, H, W), normalised as `setup` says.
        setup: the model's, for means and deviations.
        eps: largest change of a value, in [0, 1], of values in [0, 1].

    Returns:
        scalar, whose gradient reaches the model's parameters through both.

    Source: Wong, Rice & Kolter (2020), Fast is better than free: revisiting adversarial training; one step from a random start. That
    half of the loss stays with pictures that nobody attacked keeps what the model knows of those (Goodfellow et al., 2015, section 6).
    """
    pixels = inputs["pixels"]
    mean, std = (torch.tensor(values, device=pixels.device).reshape(1, -1, 1, 1) for values in (setup.mean, setup.std))
    radius = eps / std
    low, high = torch.maximum(pixels - radius, -mean / std), torch.minimum(pixels + radius, (1 - mean) / std)
    noisy = (pixels + radius * (2 * torch.rand_like(pixels) - 1)).clamp(low, high).requires_grad_()
    first = loss(inputs | {"pixels": noisy})
    (slope,) = torch.autograd.grad(first, noisy, retain_graph=True)
    moved = (noisy.detach() + STEP * radius * slope.sign()).clamp(low, high)
    return (first + loss(inputs | {"pixels": moved})) / 2
