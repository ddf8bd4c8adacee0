"""Log-mel spectrogram and cepstral statistics of a sound's first minute: what the audio classifier reads."""

from collections.abc import Sequence
from typing import Any, ClassVar

import pyarrow as pa

from upheld.feature_store.contracts import hashing
from upheld.feature_store.contracts.inputs import NUM_BANDS
from upheld.feature_store.decoding.audio import RATE_HZ, as_float, read_samples
from upheld.feature_store.decoding.contract import Arrays, Refused
from upheld.feature_store.extractors.audio.log_mel import log_mel, mfcc
from upheld.feature_store.extractors.contract import Extractor, Kind

NUM_COEFFICIENTS = 20


class Spectrogram(Extractor):
    """`log_mel` holds float16 values, row-major (num_frames, 64)."""

    name: ClassVar[str] = "spectrogram"
    kind: ClassVar[Kind] = "audio"
    columns: ClassVar[pa.Schema] = pa.schema(
        [
            ("log_mel", pa.large_binary()),
            ("num_frames", pa.int32()),
            ("mfcc_mean", pa.list_(pa.float32())),
            ("mfcc_std", pa.list_(pa.float32())),
        ]
    )

    @property
    def version(self) -> str:
        """Number of the code's version, digest of the params."""
        return "1-" + hashing.of_json([self.params.spectrogram.model_dump(), self.params.audio_bounds.model_dump()])[:12]

    def decode(self, content: bytes) -> Arrays:
        """`samples`, int16: the sound's beginning.

        Raises:
            Undecodable: as `read_samples`.
        """
        samples = read_samples(content, self.params.audio_bounds)
        return {"samples": samples[: round(self.params.spectrogram.max_s * RATE_HZ)]}

    def extract(self, batch: Sequence[Arrays]) -> list[dict[str, Any] | Refused]:
        """Spectrogram of each, and mean and deviation of its coefficients over time."""
        return [self._row(arrays) for arrays in batch]

    def _row(self, arrays: Arrays) -> dict[str, Any]:
        window, hop = (round(length_s * RATE_HZ) for length_s in (self.params.spectrogram.window_s, self.params.spectrogram.hop_s))
        bands = log_mel(as_float(arrays["samples"]), RATE_HZ, window, hop, NUM_BANDS)
        coefficients = mfcc(bands, NUM_COEFFICIENTS)
        return {
            "log_mel": bands.astype("<f2").tobytes(),
            "num_frames": len(bands),
            "mfcc_mean": coefficients.mean(0).tolist(),
            "mfcc_std": coefficients.std(0).tolist(),
        }
