"""How much moves in a video: statistics of dense optical flow between frames in a row."""

from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from upheld.feature_store.contracts import hashing
from upheld.feature_store.decoding.contract import Arrays, Refused
from upheld.feature_store.decoding.video import Frame, Picture, read_video, shrunk
from upheld.feature_store.extractors.contract import Extractor, Kind
from upheld.feature_store.extractors.video.frame_sampling import SIDE, UniformPicks

_MIN_SIDE = 16  # pixels: the flow's smoothing needs some around each
_MIN_GAP_S = 1 / 240  # frames closer than this bear rounded times


class Motion(Extractor):
    """Speeds in shares of the longer side a second, over all pixels of the pairs of frames; zeros where there is no pair."""

    name: ClassVar[str] = "motion"
    kind: ClassVar[Kind] = "video"
    columns: ClassVar[pa.Schema] = pa.schema(
        [
            ("flow_mean", pa.float32()),
            ("flow_std", pa.float32()),
            ("flow_max", pa.float32()),
            ("moving_share", pa.float32()),
            ("num_pairs", pa.int32()),
        ]
    )

    @property
    def version(self) -> str:
        """Number of the code's version, digest of the params."""
        threshold = self.params.keyframes.cut_threshold
        return "1-" + hashing.of_json([self.params.motion.model_dump(), self.params.video_bounds.model_dump(), threshold])[:12]

    def decode(self, content: bytes) -> Arrays:
        """Pairs of frames in a row, at even steps of time, shrunk and grey.

        Returns:
            `pairs` uint8 (N, 2, H, W) and `gaps` float64 (N,), the seconds between the two of each.

        Raises:
            Undecodable: as `read_video`.
        """
        settings = self.params.motion
        pairs = _Pairs(settings.side, UniformPicks(settings.every_s, settings.max_pairs))
        read_video(content, self.params.video_bounds, pairs.see)
        found = pairs.complete()
        return {
            "pairs": np.array([[first, second] for _, first, _, second in found], np.uint8),
            "gaps": np.array([max(_MIN_GAP_S, later - earlier) for earlier, _, later, _ in found]),
        }

    def extract_one(self, arrays: Arrays) -> dict[str, Any] | Refused:
        """Flow of every pair; one that straddles a cut shows no motion and is left out."""
        import cv2

        threshold = self.params.keyframes.cut_threshold
        speeds = []
        for (first, second), gap in zip(arrays["pairs"], arrays["gaps"], strict=True):
            # Mean absolute difference in grey levels, as the cut detector sees it.
            small = [cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.int16) for picture in (first, second)]
            if float(np.abs(small[0] - small[1]).mean()) <= threshold:
                speeds.append(speeds_between(first, second) / gap)
        if not speeds:
            return {"flow_mean": 0.0, "flow_std": 0.0, "flow_max": 0.0, "moving_share": 0.0, "num_pairs": 0}
        every = np.stack(speeds)
        return {
            "flow_mean": float(every.mean()),
            "flow_std": float(every.std()),
            "flow_max": float(every.max()),
            "moving_share": float((every >= self.params.motion.moving_speed).mean()),
            "num_pairs": len(every),
        }


def speeds_between(first: Picture, second: Picture) -> NDArray[np.float64]:
    """Length of the optical flow at each pixel.

    Args:
        first, second: uint8 (H, W), grey.

    Returns:
        float64 (H, W), in shares of the longer side.

    Source: Farnebäck (2003), Two-frame motion estimation based on polynomial expansion; parameters of OpenCV's tutorial.
    """
    import cv2

    flow = cv2.calcOpticalFlowFarneback(first, second, None, 0.5, 3, 15, 3, 5, 1.2, 0)
    lengths: NDArray[np.float64] = np.hypot(flow[..., 0], flow[..., 1]).astype(np.float64) / max(first.shape)
    return lengths


class _Pairs:
    """The frames picked, and the frame after each; a pair is [time, pixels, time, pixels], in seconds."""

    def __init__(self, side: int, picks: UniformPicks[list[Any]]) -> None:
        self.side = side
        self.picks = picks
        self._waiting: list[Any] | None = None

    def see(self, frame: Frame) -> None:
        """Take the next frame of the video."""
        wanted = self.picks.wants(frame.time_s)
        if self._waiting is None and not wanted:
            return
        pixels = self._grey(frame.picture)
        if self._waiting is not None:
            self._waiting += [frame.time_s, pixels]
        self._waiting = [frame.time_s, pixels] if wanted else None
        if self._waiting is not None:
            self.picks.keep(frame.time_s, self._waiting)

    def complete(self) -> list[list[Any]]:
        """Pairs whose second frame came, at the size that the video ended with."""
        pairs = [pair for pair in self.picks.kept() if len(pair) == 4]
        size = pairs[-1][3].shape if pairs else ()
        return [pair for pair in pairs if pair[1].shape == size == pair[3].shape]

    def _grey(self, picture: Any) -> Picture:
        scale = self.side / max(picture.width, picture.height)
        width, height = (max(_MIN_SIDE, round(side * scale)) for side in (picture.width, picture.height))
        return shrunk(picture, width, height, "gray")
