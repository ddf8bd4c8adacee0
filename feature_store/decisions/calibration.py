"""Apply calibration.json: score -> global isotonic map -> logit -> intercept and slope of the language -> probability.

Pure numpy, so that serving, training and evaluation calibrate with the same lines.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from upheld.common.arrays import Floats
from upheld.common.errors import BadUse
from upheld.feature_store.contracts.tables import LOGIT_LIMIT


def load(path: Path) -> dict[str, Any]:
    """Read and check calibration.json.

    Args:
        path: file with {"categories": {C: {"isotonic": {"x": [...], "y": [...]}, "mean": [a, b], "languages": {L: [a, b]}, "n": int}}};
            a category may be null: identity.

    Returns:
        the parsed content.

    Raises:
        BadUse: the file is missing, no JSON, or an entry has not that form; the message names the category.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        categories = dict(content["categories"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadUse(f"{path}: not a calibration ({error!r}); expected the calibration.json that calibrate writes") from error
    for name, entry in categories.items():
        problem = _problem(entry)
        if problem:
            raise BadUse(f"{path}: category {name}: {problem}; fit it again with calibrate")
    return dict(content)


def _problem(entry: Any) -> str | None:
    """What is wrong with an entry of "categories", or None."""
    if entry is None:
        return None
    try:
        x, y = (np.asarray(entry["isotonic"][name], np.float64) for name in ("x", "y"))
        pairs = np.asarray([entry["mean"], *entry["languages"].values()], np.float64)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return f"expected isotonic x and y, mean and languages, found {error!r}"
    if x.ndim != 1 or x.shape != y.shape or len(x) == 0 or (np.diff(x) <= 0).any() or (np.diff(y) < 0).any():
        return "isotonic x must rise, y must not fall, and both must have one length"
    if (y < 0).any() or (y > 1).any():
        return "isotonic y must lie in [0, 1]"
    if pairs.shape[1:] != (2,) or not np.isfinite(pairs).all() or (pairs[:, 1] <= 0).any():
        return "mean and every language need a finite intercept and a positive slope"
    return None


def apply(entry: Mapping[str, Any] | None, score: ArrayLike, language: ArrayLike) -> Floats:
    """Calibrate the scores of one category.

    Args:
        entry: one value of "categories"; None (no calibration known) gives the scores back.
        score: (N,) in [0, 1].
        language: (N,) strings; a language without an entry of its own uses "mean".

    Returns:
        float64 (N,) in (0, 1), not decreasing in the score within a language.
    """
    names, codes = np.unique(np.asarray(language, str), return_inverse=True)
    return apply_coded(entry, score, codes, names.tolist())


def apply_coded(entry: Mapping[str, Any] | None, score: ArrayLike, code: ArrayLike, languages: Sequence[str]) -> Floats:
    """As `apply`, with each language given as its position in `languages`: `code` has N integers."""
    scores = np.asarray(score, np.float64)
    if entry is None:
        return scores.copy()
    pairs = np.array([entry["languages"].get(name, entry["mean"]) for name in languages], np.float64).reshape(-1, 2)
    codes = np.asarray(code, np.int64)
    logit = pairs[codes, 0] + pairs[codes, 1] * base_logit(entry["isotonic"], scores)
    probs: Floats = 1 / (1 + np.exp(-np.clip(logit, -LOGIT_LIMIT, LOGIT_LIMIT)))
    return probs


def base_logit(isotonic: Mapping[str, ArrayLike], score: ArrayLike) -> Floats:
    """Logit of the global isotonic map: linear between its knots, constant beyond them.

    Args:
        isotonic: {"x": scores, rising; "y": probabilities, not falling}.
        score: (N,) in [0, 1].

    Returns:
        float64 (N,) within +-12.
    """
    probs = np.interp(np.asarray(score, np.float64), np.asarray(isotonic["x"]), np.asarray(isotonic["y"]))
    tiny = 1 / (1 + np.exp(LOGIT_LIMIT))
    probs = np.clip(probs, tiny, 1 - tiny)
    logits: Floats = np.log(probs / (1 - probs))
    return logits
