"""Extractors of a made-up medium: JSON that says which colours it shows, what is said in it, and how high it sounds."""

import io
import json
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from PIL import Image

from upheld.feature_store.contracts import hashing
from upheld.feature_store.decoding.contract import Arrays, Refused, Undecodable
from upheld.feature_store.extractors.contract import Extractor


class Medium(Extractor):
    """Reads the JSON in its decoding process."""

    columns: ClassVar[pa.Schema] = pa.schema([])
    part: ClassVar[str]

    @property
    def version(self) -> str:
        return "1-fake"

    def decode(self, content: bytes) -> Arrays:
        try:
            part = json.loads(content)[self.part]
        except ValueError as error:
            raise Undecodable("medium_corrupt", "no JSON") from error
        return {"part": np.frombuffer(json.dumps(part).encode(), np.uint8)}

    def extract(self, batch: Sequence[Arrays]) -> list[dict[str, Any] | Refused]:
        return [self.row(json.loads(arrays["part"].tobytes())) for arrays in batch]

    def row(self, part: Any) -> dict[str, Any]:
        raise NotImplementedError


class Keyframes(Medium):
    name, kind, part = "keyframes", "video", "colours"

    def row(self, part: Any) -> dict[str, Any]:
        files = [picture(colour) for colour in part]
        frames = [{"digest": hashing.of_bytes(file), "time_s": float(place), "jpeg": file} for place, file in enumerate(files)]
        return {"frames": frames, "frame_digests": [frame["digest"] for frame in frames], "num_frames": len(frames)}


class Transcript(Medium):
    name, kind, part = "transcript", "audio", "said"

    def row(self, part: Any) -> dict[str, Any]:
        return {"text": part, "language": "de", "language_prob": 0.9}


class Spectrogram(Medium):
    name, kind, part = "spectrogram", "audio", "pitch"

    def row(self, part: Any) -> dict[str, Any]:
        bands = np.full((50, 64), -6, np.float16)
        bands[:, part] = 0
        return {"log_mel": bands.tobytes(), "num_frames": len(bands)}


class Unavailable(Medium):
    name, kind, part = "ocr", "image", "text"

    def unavailable(self) -> str | None:
        return "no weights; run `make setup`"


def picture(colour: str) -> bytes:
    """A file of one colour, the same bytes every time."""
    stream = io.BytesIO()
    Image.new("RGB", (40, 30), colour).save(stream, "PNG")
    return stream.getvalue()
