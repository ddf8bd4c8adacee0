"""A network's linear head as logistic regressions on its frozen features: all policies in seconds.

Source: Kumar, Raghunathan, Jones, Ma & Liang (2022), Fine-Tuning can Distort Pretrained Features, ICLR: alone (linear probing), or as the
place that fine-tuning starts from.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import numpy as np
import torch
from torch import nn

from upheld.training.loop.examples import Array
from upheld.training.loop.logistic import fit_soft, worth_fitting
from upheld.training.loop.losses import prior_logits

MIN_SPREAD = 1e-6  # a feature that varies less is constant
NONE_KNOWN: Final[Mapping[str, Array]] = MappingProxyType({})  # digest -> what a frozen network makes of a content: nothing yet


def fit_head(features: Array, targets: Array, weights: Array, positive: Array, inverse_l2: float) -> tuple[Array, Array]:
    """Fit a head.

    Args:
        features: float32 (N, F), what the head sees of each row.
        targets: float32 (N, C) in [0, 1].
        weights: float32 (N, C), 0 where the label is unknown.
        positive: float32 (C,), > 0, factor of the violation's share of a label.
        inverse_l2: scikit-learn's C, for features of unit variance.

    Returns:
        weight float32 (C, F) and bias float32 (C,) for the features as they are. A policy without a label's worth of each class has
        weight 0 and the log-odds of its labels as bias (`prior_logits`).
    """
    spread = features.std(0)
    spread = np.where(spread > MIN_SPREAD, spread, 1)
    centre = features.mean(0)
    scaled = (features - centre) / spread
    slopes, biases = np.zeros((targets.shape[1], features.shape[1]), np.float32), prior_logits(targets, weights)
    for column, factor in enumerate(positive):
        known = weights[:, column] > 0
        label, weight = targets[known, column], weights[known, column]
        if worth_fitting(label, weight):
            mass = label * factor + 1 - label
            slope, bias = fit_soft(scaled[known], label * factor / mass, weight * mass, inverse_l2)
            slopes[column] = slope / spread
            biases[column] = bias - slopes[column] @ centre
    return slopes, biases


def set_head(head: nn.Linear, weight: Array, bias: Array) -> None:
    """Put a fitted head into a network."""
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight))
        head.bias.copy_(torch.from_numpy(bias))
