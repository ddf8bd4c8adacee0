"""Probabilities of an audit's draw: a budget spread over zones, categories and scores; and the numbers that decide."""

import hmac
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from feature_store.errors import BadUse
from feature_store.params_evaluation import AuditSample

ZONES = ("auto_remove", "review", "none")


def inclusion_probs(frame: pd.DataFrame, budget: int, settings: AuditSample) -> NDArray[np.float64]:
    """Probability of each row's draw.

    Automatic removals and the review queue are drawn flat within a category (a certificate wants equal weights there);
    posts that nobody was shown follow uniform_share * uniform + (1 - uniform_share) * sqrt(score * (1 - score)), each
    normalised. A zone's part is spread evenly over its categories; what a small cell cannot use goes to the others.

    Args:
        frame: category, score, action.
        budget: expected number of draws.
        settings: the zones' shares, `uniform_share`, `min_inclusion_prob`.

    Returns:
        float64 (N,) in [min_inclusion_prob, 1].

    Raises:
        BadUse: `budget` is below rows * min_inclusion_prob.
    """
    low = settings.min_inclusion_prob
    if len(frame) * low > budget:
        raise BadUse(f"--budget {budget}: {len(frame)} rows at audit_sample.min_inclusion_prob {low} need {int(np.ceil(len(frame) * low))}")
    shares = dict(zip(ZONES, (settings.share_auto_remove, settings.share_review, settings.share_none), strict=True))
    sizes = frame.groupby(["action", "category"]).size()
    wanted = pd.Series({cell: shares[cell[0]] / (sizes[cell[0]] > 0).sum() for cell in sizes.index})
    rows = sizes.to_numpy(dtype=np.float64)
    parts = spread(wanted.to_numpy(dtype=np.float64), float(min(budget, len(frame))), rows * low, rows)
    prob = np.empty(len(frame))
    positions = frame.groupby(["action", "category"]).indices
    for cell, part in zip(sizes.index, parts, strict=True):
        members = positions[cell]
        prob[members] = spread(_shape(frame.score.to_numpy()[members], cell[0], settings.uniform_share), part, low, 1.0)
    return prob


def spread(shape: NDArray[np.float64], total: float, low: Any, high: Any) -> NDArray[np.float64]:
    """Amounts proportional to `shape` that lie between `low` and `high` and sum to `total`.

    Args:
        shape: float64 (N,), non-negative.
        total: between the sums of `low` and of `high`.
        low: scalar or (N,).
        high: scalar or (N,).

    Returns:
        float64 (N,): clip(factor * shape, low, high) with the factor found by bisection.
    """
    shape = np.maximum(shape, shape.max() * 1e-12 if shape.max() > 0 else 1.0)
    below, above = 0.0, 1.0
    while np.clip(above * shape, low, high).sum() < total * (1 - 1e-12) and above < 1e30:
        above *= 2
    for _ in range(200):
        factor = (below + above) / 2
        below, above = (factor, above) if np.clip(factor * shape, low, high).sum() < total else (below, factor)
    amounts: NDArray[np.float64] = np.clip(above * shape, low, high)
    return amounts


def permanent_number(secret: bytes, post_id: str, category: str) -> float:
    """The number in [0, 1) that belongs to a post and category: HMAC-SHA256 of `post_id NUL category`, first 53 bits."""
    mac = hmac.digest(secret, f"{post_id}\0{category}".encode(), "sha256")
    return (int.from_bytes(mac[:8], "big") >> 11) / 2**53


def _shape(score: NDArray[np.float64], zone: str, uniform_share: float) -> NDArray[np.float64]:
    if zone != "none":
        return np.ones(len(score))
    doubt = np.sqrt(score * (1 - score))
    weight = doubt / doubt.sum() if doubt.sum() > 0 else 1 / len(score)
    return np.asarray(uniform_share / len(score) + (1 - uniform_share) * weight)
