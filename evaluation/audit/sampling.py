"""Compute the probability with which an audit draws each row, and the permanent number that decides (docs/statistics.md, Audits)."""

import hmac
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from upheld.common.params.evaluation import AuditSample

ZONES = ("auto_remove", "review", "none")


def inclusion_probs(frame: pd.DataFrame, labels: Mapping[tuple[str, str], float], settings: AuditSample) -> NDArray[np.float64]:
    """Compute the probability with which each row is drawn.

    Automatic removals and the review queue are drawn flat within a category (a certificate wants equal weights there);
    posts that nobody was shown follow `design_below`.

    Args:
        frame: category, score, action.
        labels: (category, zone) -> expected number of draws, of every one that the frame has.
        settings: `uniform_share`, `min_inclusion_prob`.

    Returns:
        float64 (N,) in [min_inclusion_prob, 1], summing to `labels` in each category and zone.
    """
    prob = np.empty(len(frame))
    scores, low = frame.score.to_numpy(dtype=np.float64), settings.min_inclusion_prob
    positions = frame.groupby(["category", "action"]).indices
    for category, zone in labels:
        members = positions[category, zone]
        part, num = labels[category, zone], np.ones(len(members))
        prob[members] = design_below(scores[members], num, part, settings) if zone == "none" else np.clip(part / len(members), low, 1.0)
    return prob


def design_below(score: NDArray[np.float64], num: NDArray[np.float64], labels: float, settings: AuditSample) -> NDArray[np.float64]:
    """Compute the probability with which posts below both thresholds are drawn.

    Args:
        score: float64 (N,) in [0, 1].
        num: float64 (N,), posts that have it.
        labels: expected number of draws.
        settings: `uniform_share`, `min_inclusion_prob`.

    Returns:
        float64 (N,): uniform_share * uniform + (1 - uniform_share) * sqrt(score * (1 - score)), each normalised, clipped to
        [min_inclusion_prob, 1]; times `num` it sums to `labels`.

    Source: our own; docs/statistics.md, Audits.
    """
    doubt, low = np.sqrt(score * (1 - score)), settings.min_inclusion_prob
    uneven = doubt / (num * doubt).sum() if (num * doubt).sum() > 0 else 1 / num.sum()
    shape = settings.uniform_share / num.sum() + (1 - settings.uniform_share) * uneven
    there = num > 0
    prob = np.full(len(score), low)
    prob[there] = spread(num[there] * shape[there], labels, low * num[there], num[there]) / num[there]
    return prob


def spread(shape: NDArray[np.float64], total: float, low: Any, high: Any) -> NDArray[np.float64]:
    """Find amounts proportional to `shape` that lie between `low` and `high` and sum to `total`.

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
    """Compute the number in [0, 1) that belongs to a post and category for good: 53 bits of HMAC-SHA256 of `post_id NUL category`."""
    mac = hmac.digest(secret, f"{post_id}\0{category}".encode(), "sha256")
    return (int.from_bytes(mac[:8], "big") >> 11) / 2**53
