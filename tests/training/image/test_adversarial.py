"""Training against attacks: what an attack does to a linear model is known without computing a gradient."""

import pytest
import torch

from upheld.training.image.adversarial import STEP, adversarial_loss
from upheld.training.image.model import ImageSetup
from upheld.training.loop.batches import Inputs

SETUP = ImageSetup("network", "digest", ("spam",), 4, (0.5, 0.4, 0.3), (0.2, 0.25, 0.5))
MEAN, STD = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (SETUP.mean, SETUP.std))
EPS = 2 / 255


def pictures(number: int = 6) -> torch.Tensor:
    """Normalised pictures, with values at both ends of what a pixel can be."""
    torch.manual_seed(3)
    values = torch.rand(number, 3, 4, 4)
    values[0, :, 0] = 0.0
    values[0, :, 1] = 1.0
    return (values - MEAN) / STD


def seen_by(slope: torch.Tensor, eps: float) -> tuple[list[torch.Tensor], torch.Tensor]:
    """What a linear loss is asked about, and what comes out."""
    asked = []

    def loss(inputs: Inputs) -> torch.Tensor:
        asked.append(inputs["pixels"])
        assert inputs["unit"] == 7  # what else the model takes stays as it is
        return (inputs["pixels"] * slope).sum()

    torch.manual_seed(5)
    value = adversarial_loss(loss, {"pixels": pictures(), "unit": torch.tensor(7)}, SETUP, eps)
    return [pixels.detach() for pixels in asked], value.detach()


def test_pictures_move_against_a_linear_model_as_far_as_they_may() -> None:
    slope = torch.where(torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(1)) < 0.5, -1.0, 1.0)
    (noisy, moved), value = seen_by(slope, EPS)
    before = pictures()
    low, high = torch.maximum(before - EPS / STD, -MEAN / STD), torch.minimum(before + EPS / STD, (1 - MEAN) / STD)
    assert ((noisy >= low - 1e-6) & (noisy <= high + 1e-6)).all() and ((moved >= low - 1e-6) & (moved <= high + 1e-6)).all()
    # One step of 1.25 radii from noise within one radius: at the border wherever the noise was not on the far side by more than .25.
    expected = torch.minimum(torch.maximum(noisy + STEP * EPS / STD * slope, low), high)
    assert torch.allclose(moved, expected, atol=1e-6)
    assert torch.isclose(value, ((noisy * slope).sum() + (moved * slope).sum()) / 2)
    assert (noisy - before).abs().max() > EPS  # in units of a deviation: there is noise


def test_without_room_nothing_moves() -> None:
    (noisy, moved), value = seen_by(torch.ones(6, 3, 4, 4), 0.0)
    assert torch.equal(noisy, pictures()) and torch.equal(moved, pictures())
    assert value == pytest.approx(float(pictures().sum()), rel=1e-5)


def test_both_halves_reach_the_weights() -> None:
    weight = torch.ones(3, requires_grad=True)

    def loss(inputs: Inputs) -> torch.Tensor:
        return (inputs["pixels"].mean((0, 2, 3)) * weight).sum()

    torch.manual_seed(5)
    adversarial_loss(loss, {"pixels": pictures()}, SETUP, EPS).backward()  # type: ignore[no-untyped-call]
    (noisy, moved), _ = seen_by(torch.ones(6, 3, 4, 4), EPS)
    assert weight.grad is not None and torch.allclose(weight.grad, (noisy.mean((0, 2, 3)) + moved.mean((0, 2, 3))) / 2, atol=1e-6)
