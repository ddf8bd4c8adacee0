"""The masked multi-label loss, and what early stopping looks at: unknown labels weigh nothing, soft labels are probabilities."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch.nn import functional


def masked_loss(
    logits_NC: torch.Tensor, targets_NC: torch.Tensor, weights_NC: torch.Tensor, positive_weights_C: torch.Tensor, focal_gamma: float
) -> torch.Tensor:
    """Weighted sum of binary cross-entropies over the known cells.

    Args:
        logits_NC: float32 (N, C).
        targets_NC: float32 (N, C), probability of violation in [0, 1]; any finite value where the weight is 0.
        weights_NC: float32 (N, C), >= 0; 0 masks an unknown label.
        positive_weights_C: float32 (C,), > 0, factor of the violation's half of the cross-entropy.
        focal_gamma: >= 0; 0 is plain cross-entropy, larger values attend to what is still predicted wrongly.

    Returns:
        float32 scalar: a sum, to be divided by the weight of the whole batch over all processes.

    Source: Li et al. (2020), Generalized Focal Loss, eq. 3 (|y - p|^gamma, focal loss for soft labels); Lin et al. (2017) for hard ones.
    """
    losses_NC = functional.binary_cross_entropy_with_logits(logits_NC, targets_NC, pos_weight=positive_weights_C, reduction="none")
    if focal_gamma:
        losses_NC = losses_NC * (targets_NC - torch.sigmoid(logits_NC)).abs().pow(focal_gamma)
    return (weights_NC * losses_NC).sum()


def balanced_positive_weights(targets_NC: NDArray[np.float32], weights_NC: NDArray[np.float32]) -> NDArray[np.float32]:
    """Factors that give violations and the rest the same total weight in every category.

    Args:
        targets_NC: (N, C) in [0, 1].
        weights_NC: (N, C), 0 where unknown.

    Returns:
        float32 (C,), within [1/10, 10] so that a rare class cannot rule the gradient; 1 where a class is missing.
    """
    positive_C = (targets_NC * weights_NC).sum(0)
    negative_C = ((1 - targets_NC) * weights_NC).sum(0)
    present_C = (positive_C > 0) & (negative_C > 0)
    ratio_C = np.divide(negative_C, positive_C, out=np.ones_like(positive_C), where=present_C)
    clipped_C: NDArray[np.float32] = np.clip(ratio_C, 0.1, 10).astype(np.float32)
    return clipped_C


def balanced_categories(weights_NC: NDArray[np.float32], power: float) -> NDArray[np.float32]:
    """Scale the weights so that categories with few labels are heard.

    Args:
        weights_NC: (N, C), 0 where unknown.
        power: 0 leaves each category its total weight, 1 gives all categories with labels the same total, between is between.

    Returns:
        float32 (N, C) with the same sum as `weights_NC`.
    """
    total_C = weights_NC.sum(0)
    factor_C = np.where(total_C > 0, np.maximum(total_C, 1e-9) ** -power, 0)
    scaled_NC = weights_NC * factor_C
    balanced_NC: NDArray[np.float32] = (scaled_NC * (total_C.sum() / max(float(scaled_NC.sum()), 1e-9))).astype(np.float32)
    return balanced_NC


def prior_logits(targets_NC: NDArray[np.float32], weights_NC: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log-odds of violation per category, shrunk by one pseudo-label of each class: where the head's bias starts."""
    positive_C = (targets_NC * weights_NC).sum(0) + 1
    negative_C = ((1 - targets_NC) * weights_NC).sum(0) + 1
    logits_C: NDArray[np.float32] = np.log(positive_C / negative_C).astype(np.float32)
    return logits_C


MIN_LABELS = 10  # of each class; an area under the curve of fewer is noise


def validation_figures(
    probabilities_NC: NDArray[np.float32], targets_NC: NDArray[np.float32], weights_NC: NDArray[np.float32], policies: Sequence[str]
) -> dict[str, Any]:
    """Masked loss and ROC-AUC per policy.

    Args:
        probabilities_NC: (N, C) in [0, 1].
        targets_NC: (N, C) in [0, 1]; a row counts as a violation at >= 0.5.
        weights_NC: (N, C), 0 where unknown; enters the loss alone.
        policies: names of the C columns.

    Returns:
        `loss` (None without labels), `num_labels`, `roc_auc` {policy: value or None}, and `score`, what early stopping
        maximises: the mean ROC-AUC of the policies with at least 10 labels of each class; without any such policy the
        negative loss; without labels None.
    """
    clipped_NC = np.clip(probabilities_NC.astype(np.float64), 1e-7, 1 - 1e-7)
    losses_NC = -(targets_NC * np.log(clipped_NC) + (1 - targets_NC) * np.log(1 - clipped_NC))
    total = float(weights_NC.sum())
    loss = float((weights_NC * losses_NC).sum()) / total if total else None
    areas: dict[str, float | None] = dict.fromkeys(policies)
    for c, policy in enumerate(policies):
        known = weights_NC[:, c] > 0
        labels = targets_NC[known, c] >= 0.5
        if min(labels.sum(), (~labels).sum()) >= MIN_LABELS:
            areas[policy] = float(roc_auc_score(labels, probabilities_NC[known, c]))
    defined = [area for area in areas.values() if area is not None]
    score = float(np.mean(defined)) if defined else (None if loss is None else -loss)
    return {"loss": loss, "num_labels": int((weights_NC > 0).sum()), "roc_auc": areas, "score": score}
