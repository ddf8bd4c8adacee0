"""What is said in a sound: voice detection, then Whisper on the speech alone."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import pyarrow as pa

from upheld.feature_store.contracts import hashing
from upheld.feature_store.decoding.audio import as_float, read_samples
from upheld.feature_store.decoding.contract import Arrays, Refused
from upheld.feature_store.extractors.audio import whisper_weights
from upheld.feature_store.extractors.audio.voice import WEIGHTS, detector_options, speech_spans
from upheld.feature_store.extractors.contract import Extractor, Kind

NO_SPEECH = {"text": "", "language": "und", "language_prob": 0.0, "segments": []}  # und: BCP-47's word for undetermined


class Transcript(Extractor):
    """Text, its language as Whisper heard it, and what was said when.

    The search has no random part (temperature 0), and no segment is told what came before it, so that one mistake stays one.
    """

    name: ClassVar[str] = "transcript"
    kind: ClassVar[Kind] = "audio"
    columns: ClassVar[pa.Schema] = pa.schema(
        [
            ("text", pa.string()),
            ("language", pa.string()),
            ("language_prob", pa.float32()),
            ("segments", pa.list_(pa.struct([("start_s", pa.float32()), ("end_s", pa.float32()), ("text", pa.string())]))),
        ]
    )

    @property
    def version(self) -> str:
        """Number of the code's version, digest of the params and of both models' weights."""
        sections = [self.params.transcript, self.params.speech, self.params.audio_bounds]
        weights = [whisper_weights.origin(self.params.transcript.model), WEIGHTS]
        return "1-" + hashing.of_json([section.model_dump() for section in sections] + weights)[:12]

    def unavailable(self) -> str | None:
        """Which package is missing, where one is."""
        return whisper_weights.missing(self.params.transcript.model)

    def decode(self, content: bytes) -> Arrays:
        """`samples`, int16 at 16 kHz.

        Raises:
            Undecodable: as `read_samples`.
        """
        return {"samples": read_samples(content, self.params.audio_bounds)}

    def extract(self, batch: Sequence[Arrays]) -> list[dict[str, Any] | Refused]:
        """Transcribe each."""
        return [self._row(arrays) for arrays in batch]

    @cached_property
    def _model(self) -> Any:
        return whisper_weights.load(self.params.transcript.model, self.params.transcript.compute_type)

    def _row(self, arrays: Arrays) -> dict[str, Any]:
        samples = arrays["samples"]
        if not speech_spans(samples, self.params.speech):
            return dict(NO_SPEECH)
        segments, heard = self._model.transcribe(
            as_float(samples),
            beam_size=self.params.transcript.beam_size,
            temperature=0.0,
            condition_on_previous_text=False,
            vad_filter=True,  # joins the stretches of speech, so that few of the model's 30 s windows are run, and restores the times
            vad_parameters=detector_options(self.params.speech),
        )
        spoken = [segment for segment in segments if segment.compression_ratio <= self.params.transcript.max_compression]
        said = [{"start_s": one.start, "end_s": one.end, "text": one.text.strip()} for one in spoken if one.text.strip()]
        if not said:
            return dict(NO_SPEECH)
        text = " ".join(one["text"] for one in said)
        return {"text": text, "language": heard.language, "language_prob": heard.language_probability, "segments": said}
