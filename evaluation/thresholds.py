"""Decide the two thresholds of every category, each with its certificate (STATISTICS.md, sections 1 and 2)."""

from collections.abc import Mapping
from typing import Any

from evaluation.cube import Cube


def decide(
    cube: Cube, section: Any, *, incumbent: Mapping[str, Any] | None = None, champion: Cube | None = None, seed: int = 0
) -> dict[str, Any]:
    """Certify thresholds from the certifying half of the labels.

    Args:
        cube: calibrated scores; labels of the calibrator's half must have been set to null (they are frame, not evidence).
        section: params.thresholds.
        incumbent: content of the thresholds.json in force, or None.
        champion: cube of the champion's calibrated scores on the same posts, where the incumbent's thresholds belong to
            another model; they then give a volume to start from, and are never kept.
        seed: of the simulation behind need_n.

    Returns:
        {category: {"auto_remove": {...}, "review": {...}}} as DESIGN section 6 lists; each has threshold (None: abstained or
        insufficient), outcome (certified/kept/abstained/insufficient), target, delta, bound, n, n_eff, need_n, incumbent, method,
        seed, reason and path [{threshold, volume, n, n_eff, p_value or recall_lower, level, passed}]; auto_remove also has languages
        {L: {action: auto_remove/review, bound, n, reason}}. A missing number is None, never NaN.
    """
    raise NotImplementedError
