"""Hard cuts: two frames in a row that differ more than motion makes them differ.

A fade or dissolve of n frames spreads the difference over n steps; below the threshold each, it is no cut. The uniform frames
show both scenes. A flash of one frame is two cuts, there and back: its picture is kept, which is what moderation wants.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from feature_store.extractors.video_frames import shrunk

SIDE = 32  # pixels of the shrunk frames: noise, compression and small movements average out
_STANDS_OUT = 2.0  # times the difference before: flames at 10 frames/s differ by 33 without any cut, but never all at once


class CutDetector:
    """Mean absolute difference of each frame to the one before.

    Args:
        threshold: grey levels of 255, over all pixels and colours, above which it is a cut, if it is also twice what the motion
            before it made of it.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self._before: NDArray[np.int16] | None = None
        self._motion = 0.0  # the last difference that was no cut

    def strength(self, picture: Any) -> float | None:
        """Difference of a frame to the one before it, where that is a cut; None where it is not, and for the first frame."""
        now = shrunk(picture, SIDE, SIDE).astype(np.int16)
        before, self._before = self._before, now
        difference = 0.0 if before is None else float(np.abs(now - before).mean())
        if difference > max(self.threshold, _STANDS_OUT * self._motion):
            return difference
        self._motion = difference
        return None
