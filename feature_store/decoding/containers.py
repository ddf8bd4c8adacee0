"""Opening audio and video files from bytes, with the demuxers that we let near them; FFmpeg knows hundreds more."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import av

from upheld.feature_store.decoding.contract import Undecodable

# No playlist or list of files among them (hls, dash, concat, ...): those name further files and addresses to be opened.
FORMATS = ("aac", "asf", "avi", "flac", "flv", "gif", "matroska", "mov", "mp3", "mpeg", "mpegts", "ogg", "wav", "webm")
# Formats whose header states the duration; of the others FFmpeg takes it from bit rate and size, and a part looks whole.
_STATE_DURATION = {"avi", "flac", "matroska", "mov"}
_MISSING_SHARE = 0.05  # of the stated duration may be missing at the end (rounding, a stream that starts late)
_MISSING_S = 0.5  # and in any case this much


@contextmanager
def opened(content: bytes, kind: Literal["video", "audio"]) -> Iterator[Any]:
    """Open a container that lies in memory.

    Args:
        content: the file's bytes.
        kind: prefix of the reasons.

    Yields:
        a PyAV input container.

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
        raise Undecodable(f"{kind}_corrupt", f"cannot be decoded: {_words(error)}") from error


def check_whole(container: Any, end_s: float, kind: Literal["video", "audio"]) -> None:
    """Compare where the file ended with the duration that its header states.

    Args:
        container: the opened file, read to its end.
        end_s: end of the last packet of any stream, seconds from the container's start.
        kind: prefix of the reason.

    Raises:
        Undecodable: `{kind}_truncated`, where more than a twentieth (and more than half a second) is missing.
    """
    if container.duration is None or not _STATE_DURATION & set(container.format.name.split(",")):
        return
    stated_s = container.duration / av.time_base
    if stated_s - end_s > max(_MISSING_S, _MISSING_SHARE * stated_s):
        raise Undecodable(f"{kind}_truncated", f"the header states {stated_s:.1f} s, the file ends after {end_s:.1f} s")


def end_of(packet: Any, start_s: float) -> float:
    """End of a packet in seconds from the container's start; 0 where it bears no time."""
    when = packet.pts if packet.pts is not None else packet.dts
    if when is None or packet.time_base is None:
        return 0.0
    return float((when + (packet.duration or 0)) * packet.time_base) - start_s


def start_of(container: Any) -> float:
    """First time in the container, in seconds; 0 where it states none."""
    return float(container.start_time / av.time_base) if container.start_time is not None else 0.0


def _words(error: Exception) -> str:
    """FFmpeg's own words, without error number and file name."""
    return re.sub(r"^\[Errno \d+\] |: '.*'$", "", str(error).splitlines()[0] if str(error) else type(error).__name__)
