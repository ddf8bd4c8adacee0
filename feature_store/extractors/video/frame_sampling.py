"""Hard cuts: two frames in a row that differ more than motion makes them differ.

A fade or dissolve of n frames spreads the difference over n steps; below the threshold each, it is no cut. The uniform frames
show both scenes. A flash of one frame is two cuts, there and back: its picture is kept, which is what moderation wants.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from upheld.feature_store.decoding.video import shrunk

SIDE = 32  # pixels of the shrunk frames: noise, compression and small movements average out
_STANDS_OUT = 2.0  # flames at 10 frames/s differ by 33 without any cut, but not twice as much as just before


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
