"""Which frames of a stream are kept while its length is still unknown: at even steps of time, and at hard cuts.

A hard cut is where two frames in a row differ more than motion makes them differ. A fade or dissolve of n frames spreads the difference
over n steps; below the threshold each, it is no cut. The uniform frames show both scenes. A flash of one frame is two cuts, there and
back: its picture is kept, which is what moderation wants.
"""

from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from upheld.feature_store.decoding.video import shrunk

Kept = TypeVar("Kept")
SIDE = 32  # pixels of the shrunk frames: noise, compression and small movements average out
_STANDS_OUT = 2.0  # flames at 10 frames/s differ by 33 without any cut, but not twice as much as just before


class UniformPicks(Generic[Kept]):
    """The first frame in every `step_s` seconds; the step is doubled whenever more than `most` would be kept.

    What is kept at the end depends on the times alone: it is what the last step would have picked from the start.

    Args:
        step_s: first step, in seconds.
        most: bound of what is kept.
    """

    def __init__(self, step_s: float, most: int) -> None:
        self.step_s = step_s
        self.most = most
        self._kept: dict[int, Kept] = {}

    def wants(self, time_s: float) -> bool:
        """Whether a frame at this time is the first of its step; times must not decrease."""
        return int(time_s / self.step_s) not in self._kept

    def keep(self, time_s: float, frame: Kept) -> None:
        """Keep a frame that is wanted; every second one goes where there are too many."""
        self._kept[int(time_s / self.step_s)] = frame
        while len(self._kept) > self.most:
            self.step_s *= 2
            earlier, self._kept = self._kept, {}
            for place, one in earlier.items():
                self._kept.setdefault(place // 2, one)

    def kept(self) -> list[Kept]:
        """What was kept, in order of time."""
        return list(self._kept.values())


class CutDetector:
    """Mean absolute difference of each frame to the one before.

    A difference is a cut where it is above the threshold and twice as large as one of the two before it: what differs all the
    time is motion, or a strobe light of which two flashes are enough. At the start the threshold stands for what came before.

    Args:
        threshold: grey levels of 255, over all pixels and colours.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self._before: NDArray[np.int16] | None = None
        self._recent = (threshold, threshold)

    def strength(self, picture: Any) -> float | None:
        """Difference of a frame to the one before it, where that is a cut; None where it is not, and for the first frame."""
        now = shrunk(picture, SIDE, SIDE).astype(np.int16)
        before, self._before = self._before, now
        if before is None:
            return None
        difference = float(np.abs(now - before).mean())
        usual = min(self._recent)
        self._recent = (self._recent[1], difference)
        return difference if difference > max(self.threshold, _STANDS_OUT * usual) else None
