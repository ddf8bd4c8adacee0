"""The head as logistic regressions: the optimum of its objective, whatever the features' scale; honest where there is nothing to fit."""

import numpy as np
import pytest
import torch
from scipy.special import expit
from torch import nn

from upheld.training.loop.head import fit_head, set_head


def data(num: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(2)
    features = (random.normal(size=(num, 4)) * [1, 10, 0.1, 1] + [0, 5, -3, 0]).astype(np.float32)
    features[:, 3] = 7.0  # constant
    prob = expit(features[:, :1] + 0.1 * (features[:, 1:2] - 5))
    targets = np.concatenate([prob, 1 - prob, np.zeros_like(prob)], axis=1).astype(np.float32)  # soft; a policy without a violation
    return features, targets, np.ones_like(targets)


def test_it_is_where_the_gradient_of_the_penalised_cross_entropy_vanishes() -> None:
    features, targets, weights = data()
    weights[:, 0] = np.linspace(0.1, 2, len(weights))
    weights[::7, 1] = 0
    positive = np.array([1.0, 3.0, 1.0], np.float32)
    slopes, biases = fit_head(features, targets, weights, positive, inverse_l2=0.5)
    spread = features.std(0)
    for column in range(2):
        prob = expit(features @ slopes[column].astype(float) + biases[column])
        heavier = weights[:, column] * positive[column] * targets[:, column], weights[:, column] * (1 - targets[:, column])
        residual = (heavier[0] + heavier[1]) * prob - heavier[0]
        assert residual.sum() == pytest.approx(0, abs=0.05)  # the bias is free
        scaled = (features[:, :3] - features[:, :3].mean(0)) / spread[:3]
        assert scaled.T @ residual + slopes[column, :3] * spread[:3] / 0.5 == pytest.approx([0, 0, 0], abs=0.1)


def test_a_policy_without_both_classes_says_its_odds_and_a_constant_feature_nothing() -> None:
    features, targets, weights = data()
    slopes, biases = fit_head(features, targets, weights, np.ones(3, np.float32), inverse_l2=0.5)
    assert slopes[2].tolist() == [0, 0, 0, 0]
    assert biases[2] == pytest.approx(np.log(1 / 401))
    assert slopes[:, 3] == pytest.approx([0, 0, 0], abs=1e-6)


def test_a_head_that_is_put_in_gives_the_fitted_logits() -> None:
    features, targets, weights = data()
    slopes, biases = fit_head(features, targets, weights, np.ones(3, np.float32), inverse_l2=0.5)
    head = nn.Linear(4, 3)
    set_head(head, slopes, biases)
    assert head(torch.from_numpy(features)).detach().numpy() == pytest.approx(features @ slopes.T + biases, abs=1e-4)
