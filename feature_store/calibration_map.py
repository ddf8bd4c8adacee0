"""Apply calibration.json: score -> global piecewise-linear isotonic map -> logit -> intercept and slope of the language.

Pure numpy, so that serving, training and evaluation calibrate with the same lines.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


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
    raise NotImplementedError


def apply(entry: Mapping[str, Any] | None, score: ArrayLike, language: ArrayLike) -> Floats:
    """Calibrate the scores of one category.

    Args:
        entry: one value of "categories"; None (no calibration known) gives the scores back.
        score: (N,) in [0, 1].
        language: (N,) strings; a language without an entry of its own uses "mean".

    Returns:
        float64 (N,) in (0, 1), not decreasing in the score within a language.
    """
    raise NotImplementedError
