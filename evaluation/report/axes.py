"""Axes of a chart: which values they show, and where."""

import math
from dataclasses import dataclass

LOGIT_TICKS = (0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999)
UNIT_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Axis:
    """One axis: values from `low` to `high`, drawn on the logit scale where `stretched`; ticks are percentages unless they have `names`."""

    label: str
    low: float
    high: float
    ticks: tuple[float, ...]
    stretched: bool = False
    names: tuple[str, ...] = ()

    def named(self) -> list[tuple[float, str]]:
        """Every tick with what is written at it."""
        return list(zip(self.ticks, self.names or map(percent, self.ticks), strict=True))

    def place(self, value: float) -> float:
        """Where a value lies between the ends, in [0, 1]; values outside are drawn at the end."""
        value = min(max(value, self.low), self.high)
        low, high, value = (_logit(v) if self.stretched else v for v in (self.low, self.high, value))
        return (value - low) / (high - low)


def probability_axis(label: str) -> Axis:
    """An axis for probabilities that leaves room near 0 and near 1, where moderation decides."""
    return Axis(label, 0.0005, 0.9995, LOGIT_TICKS, stretched=True)


def unit_axis(label: str) -> Axis:
    """A plain axis from 0 to 1."""
    return Axis(label, 0.0, 1.0, UNIT_TICKS)


def percent(share: float) -> str:
    """A share in [0, 1] as a percentage with the digits that matter near 0 and near 1."""
    digits = 1 if 0 < share < 0.00995 or 0.99005 < share < 1 else 0
    return f"{100 * share:.{digits}f}%"


def _logit(share: float) -> float:
    return math.log(share / (1 - share))
