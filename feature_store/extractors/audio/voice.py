"""Where somebody speaks: Silero's voice detector, whose weights lie in the package of faster-whisper."""

from typing import Any, NamedTuple

from upheld.common.params.extractors import Speech
from upheld.feature_store.decoding.audio import RATE_HZ, Samples, as_float

WEIGHTS = "silero_vad_v6.onnx"


class Span(NamedTuple):
    """From the first sample of a stretch of speech to the one after its last."""

    start: int
    end: int


def speech_spans(samples: Samples, settings: Speech) -> list[Span]:
    """Stretches of speech, in order, apart from each other.

    Args:
        samples: int16 (n,) at 16 kHz.
        settings: probability from which it is speech, silence that ends a stretch, padding.
    """
    from faster_whisper.vad import get_speech_timestamps

    found = get_speech_timestamps(as_float(samples), detector_options(settings), RATE_HZ)
    return [Span(one["start"], one["end"]) for one in found]


def detector_options(settings: Speech) -> Any:
    """The settings in the detector's own units."""
    from faster_whisper.vad import VadOptions

    return VadOptions(
        threshold=settings.threshold,
        min_silence_duration_ms=round(settings.min_silence_s * 1000),
        speech_pad_ms=round(settings.pad_s * 1000),
    )
