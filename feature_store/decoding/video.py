"""Frames of a video, in order and within bounds; what is kept of them, each extractor decides.

Audio and video files are opened from bytes, with the demuxers that we let near them; FFmpeg knows hundreds more.
"""

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import av
import numpy as np
from numpy.typing import NDArray

from upheld.common.params.extractors import VideoBounds
from upheld.feature_store.decoding.contract import Undecodable

Picture = NDArray[np.uint8]  # (H, W, 3) RGB, or (H, W) grey

_FRAME_S = 1 / 25  # of a frame in a file that states no frame rate
# No playlist or list of files among them (hls, dash, concat, ...): those name further files and addresses to be opened.
FORMATS = ("aac", "asf", "avi", "flac", "flv", "gif", "matroska", "mov", "mp3", "mpeg", "mpegts", "ogg", "wav", "webm")
# Formats whose header states the duration; of the others FFmpeg takes it from bit rate and size, and a part looks whole.
_STATE_DURATION = {"avi", "flac", "matroska", "mov"}
_MISSING_SHARE = 0.05  # of the stated duration may be missing at the end (rounding, a stream that starts late)
_MISSING_S = 0.5  # and in any case this much


class Frame(NamedTuple):
    """A decoded frame and its time in seconds from the first one."""

    time_s: float
    picture: Any  # av.VideoFrame


@dataclass(frozen=True)
class VideoFacts:
    """What was seen of a video: width and height in pixels as shown (after rotation), seconds up to the end of the last frame."""

    width: int
    height: int
    num_frames: int
    duration_s: float
    has_audio: bool


def read_video(content: bytes, bounds: VideoBounds, see: Callable[[Frame], None]) -> VideoFacts:
    """Decode a video once, from beginning to end.

    Frames without a time follow the one before at the stated frame rate; a time that runs backwards is held at the last one.

    Args:
        content: the file's bytes.
        bounds: seconds, frames, pixels of a frame.
        see: called with every frame; must copy what it keeps.

    Raises:
        Undecodable: `video_empty`, `video_unknown_format`, `video_no_stream`, `video_corrupt` (nothing, or less than half of it,
            decodes), `video_truncated`, `video_too_large`, `video_too_long` or `video_too_many_frames`.
    """
    with opened(content, "video") as container:
        stream = _video_stream(container, bounds)
        walk = _Walk(1 / float(stream.guessed_rate) if stream.guessed_rate else _FRAME_S)
        packets = Packets(container, stream)
        for picture in packets.frames():
            see(walk.step(picture, bounds))
        if walk.last is None or packets.num_broken > walk.num_frames:
            raise Undecodable("video_corrupt", f"{walk.num_frames} frames can be decoded, {packets.num_broken} packets cannot")
        packets.check_whole("video")
        duration_s = walk.last.time_s + walk.frame_s
        if duration_s > bounds.max_duration_s:  # a single frame that claims to last for a day
            raise Undecodable("video_too_long", f"the last frame ends at {duration_s:.1f} s, at most {bounds.max_duration_s:g} s")
        return VideoFacts(*shown_size(walk.last.picture), walk.num_frames, duration_s, bool(container.streams.audio))


def rgb(picture: Any, max_side: int) -> Picture:
    """Pixels of a frame as shown, shrunk to at most `max_side` pixels (never enlarged), transparency dropped; uint8 (H, W, 3)."""
    width, height = shown_size(picture)
    scale = min(1.0, max_side / max(width, height))
    return upright(picture, max(1, round(width * scale)), max(1, round(height * scale)))


def upright(picture: Any, width: int, height: int) -> Picture:
    """Pixels of a frame as shown, turned as the file says, at this size; uint8 (height, width, 3)."""
    turns = _quarter_turns(picture)
    stored = shrunk(picture, height, width) if turns % 2 else shrunk(picture, width, height)
    return np.ascontiguousarray(np.rot90(stored, turns))


def shown_size(picture: Any) -> tuple[int, int]:
    """Width and height of a frame in pixels, after turning it upright."""
    size = picture.width, picture.height
    return size[::-1] if _quarter_turns(picture) % 2 else size


def shrunk(picture: Any, width: int, height: int, pixel_format: str = "rgb24") -> Picture:
    """Pixels of a frame as stored, shrunk (or enlarged) to width x height; `pixel_format` is `rgb24` or `gray`."""
    pixels: Picture = picture.to_ndarray(format=pixel_format, width=width, height=height, interpolation="AREA")
    return pixels


class _Walk:
    """Times and bounds on the way through a video."""

    def __init__(self, frame_s: float) -> None:
        self.frame_s = frame_s
        self.num_frames = 0
        self.last: Frame | None = None
        self._first_s: float | None = None

    def step(self, picture: Any, bounds: VideoBounds) -> Frame:
        """Count a decoded picture and give it its time."""
        _check_size(picture.width, picture.height, bounds)
        self.num_frames += 1
        if self.num_frames > bounds.max_frames:
            raise Undecodable("video_too_many_frames", f"more than {bounds.max_frames} frames")
        self.last = Frame(self._time_of(picture), picture)
        if self.last.time_s > bounds.max_duration_s:
            raise Undecodable("video_too_long", f"a frame at {self.last.time_s:.1f} s, at most {bounds.max_duration_s:g} s")
        return self.last

    def _time_of(self, picture: Any) -> float:
        if picture.time is None:
            return self.last.time_s + self.frame_s if self.last else 0.0
        if self._first_s is None:
            self._first_s = float(picture.time)
        return max(self.last.time_s if self.last else 0.0, float(picture.time) - self._first_s)


def _video_stream(container: Any, bounds: VideoBounds) -> Any:
    """The first video stream that is no cover picture, checked by what the header states."""
    streams = [stream for stream in container.streams.video if stream.codec_context is not None]
    cover = av.stream.Disposition.attached_pic  # a picture attached to a sound file
    streams = [stream for stream in streams if not stream.disposition & cover]
    if not streams:
        kinds = ", ".join(stream.type for stream in container.streams) or "nothing"
        raise Undecodable("video_no_stream", f"expected a video stream, found {kinds}")
    stream = streams[0]
    _check_size(stream.codec_context.width, stream.codec_context.height, bounds)
    if container.duration is not None and container.duration / av.time_base > bounds.max_duration_s:
        raise Undecodable("video_too_long", f"{container.duration / av.time_base:.1f} s stated, at most {bounds.max_duration_s:g} s")
    stream.codec_context.options = {"max_pixels": str(bounds.max_pixels)}  # of frames that are larger than the header says
    stream.codec_context.thread_count = 1  # several videos are decoded beside each other, each in its process
    return stream


def _check_size(width: int, height: int, bounds: VideoBounds) -> None:
    if width * height > bounds.max_pixels:
        raise Undecodable("video_too_large", f"frames of {width} x {height} pixels, at most {bounds.max_pixels} pixels")


def _quarter_turns(picture: Any) -> int:
    """Quarter turns, counter-clockwise, that set a frame upright."""
    return round(float(picture.rotation) / 90) % 4


@contextmanager
def opened(content: bytes, kind: Literal["video", "audio"]) -> Iterator[Any]:
    """Yield a PyAV input container of the bytes; `kind` is the prefix of the reasons.

    Raises:
        Undecodable: `{kind}_empty`, `{kind}_unknown_format` (none of FORMATS), or `{kind}_corrupt`, which is also said where FFmpeg
            fails inside the block.
    """
    if not content:
        raise Undecodable(f"{kind}_empty", "the file has no bytes")
    try:
        with av.open(io.BytesIO(content), metadata_errors="ignore", options={"format_whitelist": ",".join(FORMATS)}) as container:
            yield container
    except av.error.ArgumentError as error:  # what FFmpeg says of a format that is not in the list
        raise Undecodable(f"{kind}_unknown_format", f"none of {', '.join(FORMATS)}") from error
    except (av.error.FFmpegError, ValueError, OverflowError, EOFError) as error:
        # FFmpeg's own words, without error number and file name
        words = re.sub(r"^\[Errno \d+\] |: '.*'$", "", str(error).splitlines()[0] if str(error) else type(error).__name__)
        raise Undecodable(f"{kind}_corrupt", f"cannot be decoded: {words}") from error


class Packets:
    """The packets of an opened container, of which one stream is decoded.

    Attributes:
        num_good, num_broken: packets of the stream that could be decoded, and that could not.
    """

    def __init__(self, container: Any, stream: Any) -> None:
        self.num_good = self.num_broken = 0
        self._container, self._stream = container, stream
        self._end_s = 0.0  # of the last packet of any stream, from the container's start

    def frames(self) -> Iterator[Any]:
        """PyAV's frames of the stream, in order, up to the end of the file."""
        start_s = float(self._container.start_time / av.time_base) if self._container.start_time is not None else 0.0
        for packet in self._container.demux():
            when = packet.pts if packet.pts is not None else packet.dts
            if when is not None and packet.time_base is not None:
                self._end_s = max(self._end_s, float((when + (packet.duration or 0)) * packet.time_base) - start_s)
            if packet.stream.index != self._stream.index:
                continue
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                self.num_broken += 1
            else:
                self.num_good += 1
                yield from frames

    def check_whole(self, kind: Literal["video", "audio"]) -> None:
        """Compare where the file ended with the duration that its header states; call it after the last of `frames`.

        Raises:
            Undecodable: `{kind}_truncated`, where more than a twentieth (and more than half a second) is missing.
        """
        if self._container.duration is None or not _STATE_DURATION & set(self._container.format.name.split(",")):
            return
        stated_s = self._container.duration / av.time_base
        if stated_s - self._end_s > max(_MISSING_S, _MISSING_SHARE * stated_s):
            raise Undecodable(f"{kind}_truncated", f"the header states {stated_s:.1f} s, the file ends after {self._end_s:.1f} s")
