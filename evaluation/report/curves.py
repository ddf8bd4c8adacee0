"""Points of a category's charts, counted out of its cube."""

from typing import Any

import numpy as np

from upheld.evaluation.cube.bins import centres
from upheld.evaluation.cube.cube import Cube, dense
from upheld.evaluation.statistics import calibration_error

NUM_STEPS = 32
MAX_CURVE_POINTS = 120
LOWEST, HIGHEST = 0.0005, 0.9995
ROWS_PER_DOT, MIN_ROWS_OF_DOT = 25, 5  # labelled rows that a dot of the reliability curve stands for


def of_categories(cube: Cube, alpha: float) -> list[dict[str, Any]]:
    """Per category: points of the reliability curve, of the precision-recall curve, and the histograms by label."""
    labelled = dense(cube, ("category", "label", "bin"))[:, :2]
    charts = []
    for neg, pos in labelled:
        num_groups = int(np.clip((pos + neg)[:, 0].sum() // ROWS_PER_DOT, 1, calibration_error.NUM_GROUPS))
        curve = calibration_error.reliability(pos[None], neg[None], alpha, num_groups)
        usable = curve.num[0] >= MIN_ROWS_OF_DOT
        names = ("prob", "rate", "ci_low", "ci_high", "num")
        reliability = {name: getattr(curve, name)[0][usable].tolist() for name in names}
        weights = pos[:, 1], neg[:, 1]
        charts.append({"reliability": reliability, "precision_recall": _curve(*weights), "histogram": _histogram(*weights)})
    return charts


def _curve(pos: np.ndarray[Any, Any], neg: np.ndarray[Any, Any]) -> dict[str, list[float]]:
    """Recall and precision from the highest score down, at most MAX_CURVE_POINTS points."""
    true, false = (np.cumsum(side[::-1]) for side in (pos, neg))
    if true[-1] == 0:
        return {"recall": [], "precision": []}
    at = np.flatnonzero((pos + neg)[::-1] > 0)
    at = at[np.unique(np.linspace(0, len(at) - 1, MAX_CURVE_POINTS).astype(int))]
    return {"recall": (true[at] / true[-1]).tolist(), "precision": (true[at] / (true[at] + false[at])).tolist()}


def _histogram(pos: np.ndarray[Any, Any], neg: np.ndarray[Any, Any]) -> dict[str, list[float]]:
    """Share of each label's weight in NUM_STEPS steps of equal width on the logit scale."""
    logits = np.linspace(np.log(LOWEST / (1 - LOWEST)), np.log(HIGHEST / (1 - HIGHEST)), NUM_STEPS + 1)
    ends = 1 / (1 + np.exp(-logits))
    step = np.clip(np.searchsorted(ends, centres(), side="right") - 1, 0, NUM_STEPS - 1)
    shares = {}
    for name, side in (("violation", pos), ("other", neg)):
        total = side.sum()
        shares[name] = (np.bincount(step, side, minlength=NUM_STEPS) / (total or 1.0)).tolist()
    return {"edges": ends.tolist(), **shares}
