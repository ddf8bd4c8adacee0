"""Files that mean harm, or are not what they claim, through the real decoders in the real worker processes.

Every extractor gets them among good ones: each is refused for its reason, no worker falls, and the good ones get their features.
"""

import io
import struct
import wave
import zlib

import numpy as np
import pytest

from tests.feature_store.deliveries import parameters
from tests.feature_store.extractors import clips
from tests.feature_store.extractors.pictures import blobs, encoded
from upheld.feature_store.decoding.contract import Refused, Undecodable
from upheld.feature_store.extractors import catalogue
from upheld.feature_store.sandbox.pool import DecodePool

MAX_SECONDS = 20.0
PARAMS = parameters(
    "features.decode_memory_bytes=536870912",
    f"video_bounds.max_duration_s={MAX_SECONDS}",
    "video_bounds.max_frames=50",
    "video_bounds.max_pixels=40000",
    f"audio_bounds.max_duration_s={MAX_SECONDS}",
)


def png(width: int, height: int, rows: bytes) -> bytes:
    """A greyscale PNG of these declared dimensions, whatever its rows hold."""
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    packed = (struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def wav(samples: np.ndarray, stated_bytes: int | None = None, rate_hz: int = clips.RATE_HZ) -> bytes:
    """A sound whose header states that so many bytes follow."""
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(samples.tobytes())
    content = bytearray(stream.getvalue())
    if stated_bytes is not None:
        content[4:8] = struct.pack("<I", stated_bytes + 36 & 0xFFFFFFFF)
        content[40:44] = struct.pack("<I", stated_bytes)
    return bytes(content)


def with_tag(content: bytes, name: bytes, offset: int, value: int) -> bytes:
    """An MP4 with another 32-bit value behind one of its boxes' names."""
    at = content.index(name) + offset
    return content[:at] + struct.pack(">I", value) + content[at + 4 :]


def matroska_of(stated_ms: float) -> bytes:
    """A Matroska video of a second whose header states another duration."""
    content = clips.video(clips.distinct_scenes(np.random.default_rng(0), [25]), container="matroska")
    at = content.index(b"\x44\x89\x88") + 3  # element Duration, of 8 bytes. Source: RFC 9559, section 5.1.2.10
    return content[:at] + struct.pack(">d", stated_ms) + content[at + 8 :]


PICTURE = blobs(1)
PHOTO, DRAWING, WEBP = (encoded(PICTURE, kind) for kind in ("JPEG", "PNG", "WEBP"))
SOUND = clips.melody(0, 1.5)
CLIP = clips.video(clips.distinct_scenes(np.random.default_rng(0), [15, 15]), sound=SOUND)
MP3 = clips.sound_file(SOUND, "libmp3lame", "mp3")
TEXT = b"This is no medium at all.\n" * 50
HTML = b"<!doctype html><script>alert(1)</script><img src=x>"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><image href="file:///etc/passwd"/></svg>'
PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"
CONCAT = b"ffconcat version 1.0\nfile /etc/passwd\n"

IMAGES = {
    "bomb": (png(30_000, 30_000, b"\x00" * 30_000_000), "image_bomb"),
    "huge_dimensions": (png(2**31 - 1, 2**31 - 1, b""), "image_bomb"),
    "no_dimensions": (png(0, 0, b""), "image_format"),
    "truncated_jpeg": (PHOTO[: len(PHOTO) // 2], "image_truncated"),
    "truncated_png": (DRAWING[: len(DRAWING) // 2], "image_truncated"),
    "truncated_webp": (WEBP[: len(WEBP) // 2], "image_truncated"),
    "empty": (b"", "image_empty"),
    "text": (TEXT, "image_format"),
    "mp3": (MP3, "image_format"),
    "video": (CLIP, "image_format"),
    "svg": (SVG, "image_format"),
    "html": (HTML, "image_format"),
    "tiff": (encoded(PICTURE, "TIFF"), "image_format"),  # Pillow could; we do not let it
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%id) (r) file\n", "image_format"),
}
VIDEOS = {
    "empty": (b"", "video_empty"),
    "text": (TEXT, "video_corrupt"),
    "html": (HTML, "video_corrupt"),
    "playlist": (PLAYLIST, "video_corrupt"),
    "list_of_files": (CONCAT, "video_unknown_format"),
    "photo": (PHOTO, "video_unknown_format"),
    "sound_alone": (wav(SOUND), "video_no_stream"),
    "truncated": (CLIP[: len(CLIP) // 2], "video_corrupt"),
    "stated_years": (matroska_of(1e12), "video_too_long"),
    "endless": (with_tag(CLIP, b"stts", 16, 2**30), "video_too_long"),  # of each frame's duration
    "giant": (clips.video([np.zeros((16, 5000, 3), np.uint8)]), "video_too_large"),
    "flood_of_frames": (clips.video([np.zeros((16, 16, 3), np.uint8)] * 60, frames_per_s=100), "video_too_many_frames"),
    "too_long": (clips.video([np.zeros((16, 16, 3), np.uint8)] * 25, frames_per_s=1), "video_too_long"),
}
SOUNDS = {
    "empty": (b"", "audio_empty"),
    "text": (TEXT, "audio_corrupt"),
    "playlist": (PLAYLIST, "audio_corrupt"),
    "list_of_files": (CONCAT, "audio_unknown_format"),
    "photo": (PHOTO, "audio_unknown_format"),
    "silent_film": (clips.video([np.zeros((16, 16, 3), np.uint8)] * 5), "audio_none"),
    "truncated": (CLIP[: len(CLIP) // 2], "audio_corrupt"),
    "too_long": (wav(np.zeros(int(25 * clips.RATE_HZ), np.int16)), "audio_too_long"),
    "header_alone": (wav(SOUND[:0], 10**6), "audio_corrupt"),
    "no_rate": (wav(SOUND)[:24] + bytes(8) + wav(SOUND)[32:], "audio_corrupt"),
}
LYING_LENGTH = wav(SOUND, 2**31 - 2)  # of a sound that was streamed, often: what is there counts
CASES = {"image": (IMAGES, [PHOTO]), "video": (VIDEOS, [CLIP]), "audio": (SOUNDS, [wav(SOUND), LYING_LENGTH])}
WITHOUT_WEIGHTS = ("colour", "image_hash", "keyframes", "motion", "spectrogram", "audio_fingerprint")
OTHERS = ("image_embedding", "clip_image", "ocr", "faces", "speech", "transcript")


@pytest.mark.parametrize("name", [*WITHOUT_WEIGHTS, *OTHERS])
def test_each_is_refused_for_its_reason_and_the_good_ones_are_not(name: str) -> None:
    extractor = catalogue.make(name, PARAMS)
    hostile, good = CASES[extractor.kind]
    contents = [content for bad, _ in hostile.values() for content in (bad, good[0])]
    with DecodePool(catalogue.EXTRACTORS[name], PARAMS, timeout_s=30, num_workers=1) as pool:
        found = list(pool.decode([*contents, *good], ahead=4))
    refused = [answer.reason if isinstance(answer, Refused) else None for answer in found[: len(contents)]]
    assert dict(zip(hostile, refused[::2], strict=True)) == {case: reason for case, (_, reason) in hostile.items()}
    assert set(refused[1::2]) == {None}
    decoded = [answer for answer in found[-len(good) :] if not isinstance(answer, Refused)]
    assert len(decoded) == len(good)
    if name in WITHOUT_WEIGHTS:
        rows = extractor.extract(decoded)
        assert not any(isinstance(row, Refused) for row in rows)


def test_a_playlist_makes_no_decoder_open_another_file() -> None:
    """Nor one disguised by its extension: nothing here looks at names."""
    for name in ("keyframes", "speech"):
        for content in (PLAYLIST, CONCAT):
            with pytest.raises(Undecodable) as refused:
                catalogue.make(name, PARAMS).decode(content)
            assert "passwd" not in refused.value.refused.detail
