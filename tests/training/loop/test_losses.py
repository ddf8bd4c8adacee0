"""The oracle is a loop over cells in plain Python."""

import math

import numpy as np
import pytest
import torch

from upheld.training.loop.losses import balanced_categories, balanced_positive_weights, masked_loss, prior_logits

LOGITS = [[0.3, -2.0], [4.0, 0.0], [-1.0, 1.5]]
TARGETS = [[1.0, 0.0], [0.2, 0.0], [0.0, 1.0]]
WEIGHTS = [[1.0, 0.0], [0.5, 2.0], [0.0, 1.0]]
POSITIVE = [3.0, 1.0]


def by_hand(gamma: float) -> float:
    total = 0.0
    for logits, targets, weights in zip(LOGITS, TARGETS, WEIGHTS, strict=True):
        for logit, target, weight, positive in zip(logits, targets, weights, POSITIVE, strict=True):
            prob = 1 / (1 + math.exp(-logit))
            entropy = -positive * target * math.log(prob) - (1 - target) * math.log(1 - prob)
            total += weight * abs(target - prob) ** gamma * entropy
    return total


@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_loss_equals_the_sum_over_known_cells(gamma: float) -> None:
    logits, targets, weights, positive = map(torch.tensor, (LOGITS, TARGETS, WEIGHTS, POSITIVE))
    assert masked_loss(logits, targets, weights, positive, gamma).item() == pytest.approx(by_hand(gamma), rel=1e-5)


def test_unknown_labels_have_no_gradient() -> None:
    logits = torch.tensor(LOGITS, requires_grad=True)
    masked_loss(logits, torch.tensor(TARGETS), torch.tensor(WEIGHTS), torch.ones(2), 0.0).backward()
    assert logits.grad is not None
    assert (logits.grad[torch.tensor(WEIGHTS) == 0] == 0).all()
    assert (logits.grad[torch.tensor(WEIGHTS) > 0] != 0).all()


def test_balanced_classes_weigh_the_same() -> None:
    targets = np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]], np.float32)
    assert balanced_positive_weights(targets, np.ones((4, 2), np.float32)).tolist() == [3.0, 1.0]  # no violation known: left alone


@pytest.mark.parametrize(("power", "expected"), [(0.0, [8.0, 2.0]), (1.0, [5.0, 5.0])])
def test_category_totals_between_their_own_and_equal(power: float, expected: list[float]) -> None:
    weights = np.zeros((10, 3), np.float32)
    weights[:8, 0] = weights[8:, 1] = 1
    assert balanced_categories(weights, power).sum(0).tolist() == pytest.approx([*expected, 0.0])


def test_prior_is_the_log_odds_with_a_pseudo_label_each() -> None:
    targets = np.array([[1.0], [1.0], [0.0]], np.float32)
    assert prior_logits(targets, np.ones((3, 1), np.float32)).tolist() == pytest.approx([math.log(3 / 2)])
