"""How much of a sound is speech, and where: Silero's voice detector, whose weights lie in the package of faster-whisper."""

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import pyarrow as pa

from upheld.common.params import extractors as sections
from upheld.feature_store.contracts import hashing
from upheld.feature_store.decoding.audio import RATE_HZ, Samples, as_float, read_samples
from upheld.feature_store.decoding.contract import Arrays, Refused
from upheld.feature_store.extractors.contract import Extractor, Kind

WEIGHTS = "silero_vad_v6.onnx"


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


class Span(NamedTuple):
    """From the first sample of a stretch of speech to the one after its last."""

    start: int
    end: int


def speech_spans(samples: Samples, settings: sections.Speech) -> list[Span]:
    """Stretches of speech, in order, apart from each other.

    Args:
        samples: int16 (n,) at 16 kHz.
        settings: probability from which it is speech, silence that ends a stretch, padding.
    """
    from faster_whisper.vad import get_speech_timestamps

    found = get_speech_timestamps(as_float(samples), detector_options(settings), RATE_HZ)
    return [Span(one["start"], one["end"]) for one in found]


def detector_options(settings: sections.Speech) -> Any:
    """The settings in the detector's own units."""
    from faster_whisper.vad import VadOptions

    return VadOptions(
        threshold=settings.threshold,
        min_silence_duration_ms=round(settings.min_silence_s * 1000),
        speech_pad_ms=round(settings.pad_s * 1000),
    )
