"""Fit the calibration layer: global isotonic, then an intercept and slope per language by empirical Bayes.

See docs/statistics.md, Calibration.
"""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.isotonic import IsotonicRegression

from upheld.common.arrays import Floats, Ints
from upheld.common.params.evaluation import Calibration
from upheld.feature_store.decisions import calibration as calibration_map

NUM_EM_STEPS = 60
NUM_NEWTON_STEPS = 25
# Where the data say nothing about spread, languages are let differ this much: the prior of EM's first step and a floor of its later ones.
FIRST_SPREAD, LEAST_SPREAD = 0.5, 1e-4
MIN_SLOPE = 0.05  # a slope of 0 or less would turn the order of scores round


def fit(rows: pd.DataFrame, categories: tuple[str, ...], section: Calibration) -> dict[str, Any]:
    """Fit every category; the result is the content of calibration.json (feature_store/decisions/calibration.py applies it).

    Args:
        rows: labelled rows of the calibration split, columns category, language (str), score (float in [0, 1]), label (0 or 1) and
            inclusion_prob (float in (0, 1]).
        categories: all categories to answer for; one with too little evidence becomes null (identity).

    Returns:
        {"categories": {C: entry or None}, "reasons": {C: why it is None}}.
    """
    entries: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    for category in categories:
        own = rows[rows.category == category]
        num_rarer = int(min((own.label == 1).sum(), (own.label == 0).sum()))
        if num_rarer < section.min_labels:
            entries[category] = None
            reasons[category] = f"{num_rarer} labels of the rarer kind, {section.min_labels} needed: scores are used as they are"
        else:
            entries[category] = fit_category(own.score, own.label, 1 / own.inclusion_prob, own.language)
    return {"categories": entries, "reasons": reasons}


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
    scores, labels, weights = (np.asarray(values, np.float64) for values in (score, label, weight))
    names, codes = np.unique(np.asarray(language, str), return_inverse=True)
    isotonic = fit_isotonic(scores, labels, weights)
    mean, pairs = fit_languages(calibration_map.base_logit(isotonic, scores), labels, weights, codes)
    return {
        "isotonic": {name: values.tolist() for name, values in isotonic.items()},
        "mean": mean.tolist(),
        "languages": {str(name): pair.tolist() for name, pair in zip(names, pairs, strict=True)},
        "n": len(scores),
    }


def fit_isotonic(score: Floats, label: Floats, weight: Floats) -> dict[str, Floats]:
    """Rising map from score to probability: the mean of isotonic regression and its centred form.

    Isotonic regression alone is flat over each block, and ties would make thresholds as coarse as the blocks. Its centred form puts each
    block's value at the block's mean score and is linear between, which blurs true plateaus. Their mean rises strictly and errs less
    than either where the truth is not known to have plateaus or none.

    Args:
        score: (N,) in [0, 1].
        label: (N,) 0 or 1.
        weight: (N,) > 0.

    Returns:
        {"x": float64 (K,) rising, "y": float64 (K,) not falling, inside (0, 1)}.

    Source: Oron & Flournoy (2017), Statistics in Biopharmaceutical Research 9(3), for centred isotonic regression.
    """
    blocks = IsotonicRegression(y_min=0, y_max=1).fit(score, label, sample_weight=weight)
    value, block = np.unique(blocks.predict(score), return_inverse=True)
    # A block without any violation is not proof of none: its rate keeps the distance of half an observation from 0 and 1.
    least = 0.5 / (np.bincount(block, weight) ** 2 / np.bincount(block, weight**2) + 1)
    smoothed = np.maximum.accumulate(np.clip(value, least, 1 - least))
    level, block = np.unique(smoothed[block], return_inverse=True)
    # Beyond the outermost centres, half of what is left is reached at scores 0 and 1.
    centre = np.concatenate([[-1e-9], np.bincount(block, weight * score) / np.bincount(block, weight), [1 + 1e-9]])
    at_centre = np.concatenate([[level[0] / 2], level, [(1 + level[-1]) / 2]])
    x = np.union1d(np.clip(centre, 0, 1), blocks.X_thresholds_)
    flat = np.interp(x, blocks.X_thresholds_, np.interp(blocks.y_thresholds_, value, smoothed))
    return {"x": x, "y": (np.interp(x, centre, at_centre) + flat) / 2}


def fit_languages(logit: Floats, label: Floats, weight: Floats, code: Ints) -> tuple[Floats, Floats]:
    """Intercept and slope per language: the posterior mode under a normal prior whose mean and covariance come from all languages.

    Args:
        logit: (N,), the global map's.
        label: (N,) 0 or 1.
        weight: (N,) > 0; within a language they are scaled to sum to its effective number of labels.
        code: (N,) language position, every one of 0..L-1 present.

    Returns:
        (mean (2,), pairs (L, 2)), each row intercept and slope.

    Source: docs/statistics.md, Calibration; EM with a Laplace approximation (Newton per language for the mode, its Hessian for the spread).
    """
    total, squares = np.bincount(code, weight), np.bincount(code, weight**2)
    scaled = weight * (total / squares)[code]
    num_languages = len(total)
    mean, covariance = np.array([0.0, 1.0]), FIRST_SPREAD**2 * np.eye(2)
    pairs = np.tile(mean, (num_languages, 1))
    for _ in range(NUM_EM_STEPS):
        pairs, spread = _modes(logit, label, scaled, code, mean, covariance, pairs)
        new_mean = pairs.mean(axis=0)
        around = pairs - new_mean
        covariance = (around[:, :, None] * around[:, None, :] + spread).mean(axis=0) + LEAST_SPREAD * np.eye(2)
        moved = np.abs(new_mean - mean).max()
        mean = new_mean
        if moved < 1e-6:
            break
    mean[1] = max(mean[1], MIN_SLOPE)
    pairs[:, 1] = np.maximum(pairs[:, 1], MIN_SLOPE)
    return mean, pairs


def _modes(
    logit: Floats, label: Floats, weight: Floats, code: Ints, mean: Floats, covariance: Floats, start: Floats
) -> tuple[Floats, Floats]:
    """Posterior mode (L, 2) and covariance (L, 2, 2) of every language at once, by damped Newton."""
    precision = np.linalg.inv(covariance)
    pairs = start.copy()
    num = len(pairs)

    def sums(values: Floats) -> Floats:
        """Sum of the values of each language."""
        return np.bincount(code, values, minlength=num).astype(np.float64)

    for _ in range(NUM_NEWTON_STEPS):
        prob = 1 / (1 + np.exp(-(pairs[code, 0] + pairs[code, 1] * logit)))
        residual, curvature = weight * (label - prob), weight * prob * (1 - prob)
        gradient = np.stack([sums(residual), sums(residual * logit)], axis=1) - (pairs - mean) @ precision
        cross = sums(curvature * logit)
        hessian = np.stack([sums(curvature), cross, cross, sums(curvature * logit**2)], axis=1).reshape(-1, 2, 2) + precision
        step = np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
        step *= np.minimum(1.0, 2.0 / np.maximum(np.abs(step).max(axis=1, keepdims=True), 1e-300))
        pairs += step
        if np.abs(step).max() < 1e-8:
            break
    return pairs, np.linalg.inv(hessian)
