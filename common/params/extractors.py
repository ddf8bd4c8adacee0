"""Sections of params.yaml that feature extractors read."""

import ipaddress
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from upheld.common.params.section import Probability, Section, Share


class Language(Section):
    """Language identification: below `min_prob` a language is `und`."""

    min_prob: Share


class TextEmbedding(Section):
    """The encoder (as `text.backbone`), what it expects before a text, tokens a text, texts in one forward pass, number format."""

    backbone: str = Field(min_length=1)
    prefix: str
    max_tokens: int = Field(ge=8)
    batch_size: int = Field(ge=1)
    lane: Literal["fp32", "bf16"]


class ImageEmbedding(Section):
    """The network (as `image.backbone`), side of its square input in pixels, number format."""

    backbone: str = Field(min_length=1)
    size: int = Field(ge=32)
    lane: Literal["fp32", "bf16"]


class Clip(Section):
    """An open_clip model: its architecture, and its weights (see `backbones.clip.load_clip`); none where `pretrained` is null."""

    model: str = Field(min_length=1)
    pretrained: str | None


class Ocr(Section):
    """Reading text drawn on pictures; sides in pixels.

    A picture is shrunk until its longer side is at most `max_side`, and enlarged until its shorter one is at least `min_side`;
    lines below `min_prob` are left out, and those that end beyond `max_length` of text, counted from the top in line heights.
    """

    max_side: int = Field(ge=64, le=4096)
    min_side: int = Field(ge=32, le=2048)
    min_prob: Probability
    max_length: float = Field(gt=0)


class Faces(Section):
    """Counting faces; the picture's longer side is at most `max_side` pixels, and faces below `min_face` pixels are not looked for."""

    max_side: int = Field(ge=64, le=4096)
    min_face: int = Field(ge=12)
    min_prob: Probability


class Caption(Section):
    """BLIP: a folder or a hub id, none when empty; the revision pins a hub id; the longest caption in tokens."""

    model: str
    revision: str
    max_tokens: int = Field(ge=1, le=512)


class VisionAnswer(Section):
    """An endpoint that speaks OpenAI's chat completions, none when `url` is empty; the key comes from the environment alone.

    `options` go into each request as they are; `max_requests` are those of one run, repeated ones included; times in seconds.
    """

    url: str
    model: str
    question: str = Field(min_length=1)
    answer_schema: dict[str, Any]
    options: dict[str, Any]
    max_side: int = Field(ge=64, le=4096)
    max_requests: int = Field(ge=0)
    max_attempts: int = Field(ge=1, le=10)
    timeout_s: float = Field(gt=0)
    backoff_s: float = Field(ge=0)

    @field_validator("url")
    @classmethod
    def _safe(cls, url: str) -> str:
        """Pictures and a key are sent there: over https, or to this very machine."""
        parts = urlsplit(url)
        if url and (parts.username is not None or parts.query or parts.fragment or not parts.hostname):
            raise ValueError("expected https://HOST/PATH, without user name, query or fragment")
        if url and not (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(str(parts.hostname)))):
            raise ValueError("expected https://; http:// is for 127.0.0.1, ::1 and localhost alone")
        return url


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


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
