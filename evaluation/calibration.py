"""Fit the calibration layer: global isotonic, then an intercept and slope per language by empirical Bayes (STATISTICS.md, section 4)."""

from typing import Any

import pandas as pd
from numpy.typing import ArrayLike


def fit(rows: pd.DataFrame, categories: tuple[str, ...], section: Any) -> dict[str, Any]:
    """Fit every category; the result is the content of calibration.json (feature_store/calibration_map.py applies it).

    Args:
        rows: labelled rows of the calibration split: category, language (str), score (float in [0, 1]), label (0 or 1), inclusion_prob ((0, 1]).
        categories: all categories to answer for; one with too little evidence becomes null (identity).
        section: params.calibration.

    Returns:
        {"categories": {C: entry or None}, "reasons": {C: why it is None}}.
    """
    raise NotImplementedError


def fit_category(score: ArrayLike, label: ArrayLike, weight: ArrayLike, language: ArrayLike) -> dict[str, Any]:
    """Fit one category.

    Args:
        score: (N,) in [0, 1].
        label: (N,) 0 or 1, both present.
        weight: (N,) > 0, 1 / inclusion_prob.
        language: (N,) strings.

    Returns:
        entry of calibration.json: isotonic x and y, mean [a, b], languages {L: [a, b]}, n.
    """
    raise NotImplementedError
