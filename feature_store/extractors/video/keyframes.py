"""Keyframes: the frames of a video that stand for it, as JPEG files of their own."""

import io
from dataclasses import asdict
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from PIL import Image

from upheld.common.params.extractors import Keyframes as Settings
from upheld.feature_store.contracts import hashing
from upheld.feature_store.decoding.contract import Arrays, Refused
from upheld.feature_store.decoding.video import Frame, Picture, read_video, rgb
from upheld.feature_store.extractors.contract import Extractor, Kind
from upheld.feature_store.extractors.video.frame_sampling import CutDetector, UniformPicks

FRAME = pa.struct([("digest", pa.string()), ("time_s", pa.float32()), ("picked", pa.string()), ("jpeg", pa.large_binary())])


class Keyframes(Extractor):
    """Frames at even steps of time and at hard cuts, upright, with digests as image contents have them."""

    name: ClassVar[str] = "keyframes"
    kind: ClassVar[Kind] = "video"
    columns: ClassVar[pa.Schema] = pa.schema(
        [
            ("duration_s", pa.float32()),
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("frames", pa.list_(FRAME)),
            ("frame_digests", pa.list_(pa.string())),  # of the frames, in order of time: to be read without their JPEGs
            ("num_frames", pa.int32()),
            ("num_cuts", pa.int32()),
            ("has_audio", pa.bool_()),
        ]
    )

    @property
    def version(self) -> str:
        """Number of the code's version, digest of the params."""
        return "2-" + hashing.of_json([self.params.keyframes.model_dump(), self.params.video_bounds.model_dump()])[:12]

    def decode(self, content: bytes) -> Arrays:
        """Pick the frames and encode them.

        Returns:
            `jpeg` uint8, the files one after the other; `ends` int64, where each ends; `times` float32 in seconds; `at_cut` bool;
            `num_cuts`; and the video's facts.

        Raises:
            Undecodable: as `read_video`.
        """
        picks = _Picks(self.params.keyframes)
        facts = read_video(content, self.params.video_bounds, picks.see)
        chosen = sorted(picks.chosen().items())
        files = []
        for _, (pixels, _) in chosen:
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "JPEG", quality=self.params.keyframes.jpeg_quality)
            files.append(file.getvalue())
        return {
            "jpeg": np.frombuffer(b"".join(files), np.uint8),
            "ends": np.cumsum([len(file) for file in files]),
            "times": np.array([time_s for time_s, _ in chosen], np.float32),
            "at_cut": np.array([at_cut for _, (_, at_cut) in chosen]),
            "num_cuts": np.array(picks.num_cuts),
            **{name: np.array(value) for name, value in asdict(facts).items()},
        }

    def extract_one(self, arrays: Arrays) -> dict[str, Any] | Refused:
        """The video's facts, and its frames with the digest of each."""
        files = [part.tobytes() for part in np.split(arrays["jpeg"], arrays["ends"][:-1])]
        digests = [hashing.of_bytes(file) for file in files]
        return {
            "duration_s": float(arrays["duration_s"]),
            "width": int(arrays["width"]),
            "height": int(arrays["height"]),
            "frames": [
                {"digest": name, "time_s": float(time_s), "picked": "scene" if at_cut else "uniform", "jpeg": file}
                for name, file, time_s, at_cut in zip(digests, files, arrays["times"], arrays["at_cut"], strict=True)
            ],
            "frame_digests": digests,
            "num_frames": len(files),
            "num_cuts": int(arrays["num_cuts"]),
            "has_audio": bool(arrays["has_audio"]),
        }


class _Picks:
    """Frames kept so far: uniform ones, and those at the hardest cuts."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.num_cuts = 0
        self._uniform: UniformPicks[tuple[float, Picture]] = UniformPicks(settings.every_s, settings.max_uniform)
        self._cuts = CutDetector(settings.cut_threshold)
        self._at_cuts: list[tuple[float, float, Picture]] = []  # strength, time, pixels

    def see(self, frame: Frame) -> None:
        """Take the next frame of the video."""
        if self._uniform.wants(frame.time_s):
            self._uniform.keep(frame.time_s, (frame.time_s, rgb(frame.picture, self.settings.max_side)))
        if (strength := self._cuts.strength(frame.picture)) is not None:
            self.num_cuts += 1
            self._keep_cut(strength, frame)

    def chosen(self) -> dict[float, tuple[Picture, bool]]:
        """Time -> pixels, and whether there is a cut."""
        uniform = {time_s: (pixels, False) for time_s, pixels in self._uniform.kept()}
        return uniform | {time_s: (pixels, True) for _, time_s, pixels in self._at_cuts}

    def _keep_cut(self, strength: float, frame: Frame) -> None:
        kept, most = self._at_cuts, self.settings.max_scene
        if len(kept) >= most and not (most and strength > kept[-1][0]):
            return  # a strobe light has a cut a frame; only the hardest are worth the pixels
        kept.append((strength, frame.time_s, rgb(frame.picture, self.settings.max_side)))
        kept.sort(key=lambda cut: (-cut[0], cut[1]))
        del kept[most:]
