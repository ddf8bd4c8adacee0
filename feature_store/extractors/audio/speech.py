"""How much of a sound is speech, and where."""

from collections.abc import Sequence
from typing import Any, ClassVar

import pyarrow as pa

from upheld.feature_store.contracts import hashing
from upheld.feature_store.decoding.audio import RATE_HZ, read_samples
from upheld.feature_store.decoding.contract import Arrays, Refused
from upheld.feature_store.extractors.audio.voice import WEIGHTS, speech_spans
from upheld.feature_store.extractors.contract import Extractor, Kind


class Speech(Extractor):
    """Segments of speech, in seconds from the start."""

    name: ClassVar[str] = "speech"
    kind: ClassVar[Kind] = "audio"
    columns: ClassVar[pa.Schema] = pa.schema(
        [
            ("duration_s", pa.float32()),
            ("speech_s", pa.float32()),
            ("speech_share", pa.float32()),
            ("segments", pa.list_(pa.struct([("start_s", pa.float32()), ("end_s", pa.float32())]))),
        ]
    )

    @property
    def version(self) -> str:
        """Number of the code's version, digest of the params and of the detector's name and edition."""
        return "1-" + hashing.of_json([self.params.speech.model_dump(), self.params.audio_bounds.model_dump(), WEIGHTS])[:12]

    def decode(self, content: bytes) -> Arrays:
        """`samples`, int16 at 16 kHz.

        Raises:
            Undecodable: as `read_samples`.
        """
        return {"samples": read_samples(content, self.params.audio_bounds)}

    def extract(self, batch: Sequence[Arrays]) -> list[dict[str, Any] | Refused]:
        """Detect speech in each."""
        return [self._row(arrays) for arrays in batch]

    def _row(self, arrays: Arrays) -> dict[str, Any]:
        samples = arrays["samples"]
        spans = speech_spans(samples, self.params.speech)
        speech = sum(span.end - span.start for span in spans)
        return {
            "duration_s": len(samples) / RATE_HZ,
            "speech_s": speech / RATE_HZ,
            "speech_share": speech / len(samples),
            "segments": [{"start_s": span.start / RATE_HZ, "end_s": span.end / RATE_HZ} for span in spans],
        }
