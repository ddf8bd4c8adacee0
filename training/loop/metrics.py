"""How good a classifier is on its validation rows: what early stopping looks at and metadata.json keeps."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

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
    areas = {policy: _area(probabilities_NC[:, c], targets_NC[:, c], weights_NC[:, c] > 0) for c, policy in enumerate(policies)}
    defined = [area for area in areas.values() if area is not None]
    score = float(np.mean(defined)) if defined else (None if loss is None else -loss)
    return {"loss": loss, "num_labels": int((weights_NC > 0).sum()), "roc_auc": areas, "score": score}


def _area(probabilities: NDArray[np.float32], targets: NDArray[np.float32], known: NDArray[np.bool_]) -> float | None:
    labels = targets[known] >= 0.5
    if min(labels.sum(), (~labels).sum()) < MIN_LABELS:
        return None
    return float(roc_auc_score(labels, probabilities[known]))
