"""Sections of params.yaml that the extractors of video and audio read."""

from typing import Literal

from pydantic import Field

from upheld.common.params.section import Probability, Section, Share


class VideoBounds(Section):
    """What a video may hold: seconds, frames in all, and pixels of one frame; beyond, it is refused with the reason."""

    max_duration_s: float = Field(gt=0)
    max_frames: int = Field(ge=1)
    max_pixels: int = Field(ge=1)


class AudioBounds(Section):
    """What a sound may hold: seconds."""

    max_duration_s: float = Field(gt=0)


class Keyframes(Section):
    """Which frames of a video stand for it.

    A cut is where two frames in a row, shrunk to 32 x 32, differ by more than `cut_threshold` grey levels of 255 on average.
    Between cuts a frame is taken every `every_s` seconds; where that would give more than `max_uniform`, the step is doubled.
    """

    cut_threshold: float = Field(gt=0, lt=255)
    every_s: float = Field(gt=0)
    max_uniform: int = Field(ge=1)
    max_scene: int = Field(ge=0)
    max_side: int = Field(ge=32)
    jpeg_quality: int = Field(ge=1, le=95)


class Motion(Section):
    """Optical flow: side of the shrunk frames in pixels, how often and how many pairs are looked at, and from which speed
    (shares of the longer side a second) a pixel counts as moving."""

    side: int = Field(ge=32, le=640)
    every_s: float = Field(gt=0)
    max_pairs: int = Field(ge=1)
    moving_speed: float = Field(gt=0)


class Action(Section):
    """Clip embeddings: where the weights of r3d_18 come from ("": nowhere, the extractor is off), and clips a video."""

    pretrained: str
    max_clips: int = Field(ge=1)


class Speech(Section):
    """Voice detection: probability of speech, silence that ends a segment, and what is added around it, in seconds."""

    threshold: Probability
    min_silence_s: float = Field(gt=0)
    pad_s: float = Field(ge=0)


class Transcript(Section):
    """Speech to text: model (`whisper-base` out of packages, a hub id or a folder), arithmetic, width of the search, and the
    ratio of text to its compressed size above which a segment is a loop and not speech."""

    model: str = Field(min_length=1)
    compute_type: Literal["int8", "float16", "float32", "int8_float16"]
    beam_size: int = Field(ge=1)
    max_compression: float = Field(gt=1)


class Spectrogram(Section):
    """Log-mel frames: how much of the sound they cover, their window and the step between them, in seconds."""

    max_s: float = Field(gt=0, le=60)
    window_s: float = Field(gt=0)
    hop_s: float = Field(gt=0)


class AudioFingerprint(Section):
    """Landmarks: spectral peaks a second, partners of each, and what a match needs: landmarks in line, and their share."""

    peaks_per_s: int = Field(ge=1)
    fan_out: int = Field(ge=1)
    min_aligned: int = Field(ge=1)
    thr_share: Share
