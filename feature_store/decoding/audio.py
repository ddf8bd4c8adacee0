"""The sound of an audio or video file as samples: 16 kHz, one channel."""

from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from upheld.common.params.extractors import AudioBounds
from upheld.feature_store.decoding.contract import Undecodable
from upheld.feature_store.decoding.video import Packets, opened

RATE_HZ = 16_000  # what Whisper and the voice detector read
Samples = NDArray[np.int16]


def read_samples(content: bytes, bounds: AudioBounds) -> Samples:
    """Decode the first audio stream of an audio or video file, mix its channels and resample: int16 (n,), n > 0, at `RATE_HZ`.

    Raises:
        Undecodable: `audio_empty`, `audio_unknown_format`, `audio_none` (no audio stream), `audio_corrupt` (nothing, or less than
            half of it, decodes), `audio_truncated` or `audio_too_long`.
    """
    with opened(content, "audio") as container:
        streams = [stream for stream in container.streams.audio if stream.codec_context is not None]
        if not streams:
            kinds = ", ".join(stream.type for stream in container.streams) or "nothing"
            raise Undecodable("audio_none", f"expected an audio stream, found {kinds}")
        if container.duration is not None and container.duration / av.time_base > bounds.max_duration_s:
            raise Undecodable("audio_too_long", f"{container.duration / av.time_base:.1f} s stated, at most {bounds.max_duration_s:g} s")
        stream = streams[0]
        stream.codec_context.thread_count = 1
        track, packets = _Track(bounds), Packets(container, stream)
        for frame in packets.frames():
            track.add(frame)
        samples = track.finish()
        if not len(samples) or packets.num_broken > packets.num_good:
            raise Undecodable("audio_corrupt", f"{len(samples)} samples can be decoded, {packets.num_broken} packets cannot")
        packets.check_whole("audio")
        return samples


def as_float(samples: Samples) -> NDArray[np.float32]:
    """Samples in [-1, 1)."""
    return samples.astype(np.float32) / np.float32(32768)


class _Track:
    """Resampled pieces, bounded in length."""

    def __init__(self, bounds: AudioBounds) -> None:
        self.bounds = bounds
        self._resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE_HZ)
        self._pieces: list[Samples] = []
        self._num_samples = 0

    def add(self, frame: Any) -> None:
        """Add a frame; None flushes."""
        if frame is not None:
            frame.pts = None  # gaps and jumps of the clock are not filled
        for piece in self._resampler.resample(frame):
            self._pieces.append(piece.to_ndarray().reshape(-1))
            self._num_samples += len(self._pieces[-1])
        if self._num_samples > self.bounds.max_duration_s * RATE_HZ:
            raise Undecodable("audio_too_long", f"more than {self.bounds.max_duration_s:g} s")

    def finish(self) -> Samples:
        """All samples."""
        if not self._pieces:
            return np.empty(0, np.int16)
        self.add(None)
        return np.concatenate(self._pieces)
