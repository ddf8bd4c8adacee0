"""Videos and sounds made on the spot, so that what is in them is known."""

import io
from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np
from numpy.typing import NDArray

RATE_HZ = 16_000
Picture = NDArray[np.uint8]


class Stream(io.RawIOBase):
    """A target that cannot seek, as a live stream's: the muxer cannot go back to note the duration."""

    def __init__(self) -> None:
        self.content = bytearray()

    def write(self, piece) -> int:
        self.content += bytes(piece)
        return len(piece)

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False


def video(
    pictures: Sequence[Picture],
    frames_per_s: int = 25,
    codec: str = "libx264",
    container: str = "mp4",
    pixels: str = "yuv420p",
    sound: NDArray[np.int16] | None = None,
    target=None,
    index_first: bool = False,
) -> bytes:
    """Encode RGB or RGBA pictures (H, W, 3 or 4) of one size, and a 16 kHz sound beside them.

    Args:
        target: what to write to, instead of memory.
        index_first: an MP4 whose index precedes the pictures, so that a part of it can be opened.
    """
    file = target or io.BytesIO()
    with av.open(file, "w", format=container, options={"movflags": "frag_keyframe+empty_moov+delay_moov"} if index_first else {}) as out:
        stream = out.add_stream(codec, rate=Fraction(frames_per_s))
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = pixels
        stream.codec_context.thread_count = 1
        audio = out.add_stream("libopus" if container == "webm" else "aac", rate=48_000, layout="mono") if sound is not None else None
        for picture in pictures:
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgba" if picture.shape[2] == 4 else "rgb24")):
                out.mux(packet)
        for packet in stream.encode(None):
            out.mux(packet)
        if audio is not None:
            _encode_sound(out, audio, sound)
    return bytes(file.content) if isinstance(file, Stream) else file.getvalue()


def sound_file(
    samples: NDArray[np.int16], codec: str = "pcm_s16le", container: str = "wav", bits_per_s: int = 64_000, rate_hz: int = RATE_HZ
) -> bytes:
    """Encode a 16 kHz mono sound."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        stream = out.add_stream(codec, rate=rate_hz, layout="mono")
        stream.bit_rate = bits_per_s
        _encode_sound(out, stream, samples)
    return file.getvalue()


def _encode_sound(out, stream, samples) -> None:
    frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout="mono")
    frame.sample_rate = RATE_HZ
    context = stream.codec_context
    if not context.is_open:
        context.open()  # then it knows its frames' size
    resampler = av.AudioResampler(format=context.format, layout="mono", rate=context.rate, frame_size=context.frame_size or 1024)
    for piece in resampler.resample(frame) + resampler.resample(None):
        piece.pts = None
        for packet in stream.encode(piece):
            out.mux(packet)
    for packet in stream.encode(None):
        out.mux(packet)


def scene(random: np.random.Generator, num_frames: int, width: int = 160, height: int = 120, speed: float = 3.0) -> list[Picture]:
    """A scene in which everything moves: a textured ground that pans, a block that crosses it, and noise.

    Args:
        speed: pixels a frame.
    """
    colour = random.integers(30, 226, 3)
    ground = np.clip(colour + _smooth(random, height, width)[..., None] * 40, 0, 255)
    direction = random.uniform(0, 2 * np.pi)
    block = random.integers(0, 256, 3)
    pictures = []
    for number in range(num_frames):
        shift = np.round(number * speed * np.array([np.sin(direction), np.cos(direction)])).astype(int)
        picture = np.roll(ground, tuple(shift), (0, 1)).copy()
        left, top = (10 + number * 4) % (width - 30), (20 + number * 2) % (height - 30)
        picture[top : top + 24, left : left + 24] = block
        pictures.append(np.clip(picture + random.normal(0, 4, picture.shape), 0, 255).astype(np.uint8))
    return pictures


def distinct_scenes(random: np.random.Generator, lengths: Sequence[int], **options) -> list[Picture]:
    """Scenes one after the other, each of another ground colour than the one before."""
    pictures: list[Picture] = []
    for length in lengths:
        while True:
            following = scene(random, length, **options)
            if not pictures or np.abs(following[0].mean((0, 1)) - pictures[-1].mean((0, 1))).mean() > 45:
                break
        pictures += following
    return pictures


def melody(seed: int, duration_s: float) -> NDArray[np.int16]:
    """Notes of four harmonics at random pitches and lengths, over some noise; int16 at 16 kHz."""
    random = np.random.default_rng(seed)
    total = int(duration_s * RATE_HZ)
    sound = random.normal(0, 0.004, total)
    for _ in range(int(duration_s * 6)):
        start, length = random.integers(0, total), int(random.uniform(0.1, 0.5) * RATE_HZ)
        when = np.arange(min(length, total - start)) / RATE_HZ
        pitch = 220 * 2 ** (random.integers(0, 36) / 12)
        waves = sum(np.sin(2 * np.pi * pitch * harmonic * when) / harmonic for harmonic in range(1, 5))
        sound[start : start + length] += 0.08 * waves * np.exp(-4 * when)
    return np.clip(sound * 32767, -32768, 32767).astype(np.int16)


def tone(hertz: float, duration_s: float, amplitude: float = 0.5) -> NDArray[np.int16]:
    """A pure tone, int16 at 16 kHz."""
    return np.round(amplitude * 32767 * np.sin(2 * np.pi * hertz * np.arange(int(duration_s * RATE_HZ)) / RATE_HZ)).astype(np.int16)


def _smooth(random, height, width):
    """Blurred noise of deviation 1 that wraps around."""
    spectrum = np.fft.fft2(random.normal(0, 1, (height, width)))
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None]
    smooth = np.fft.ifft2(spectrum * np.exp(-((rows**2 + columns**2) * 800))).real
    return smooth / smooth.std()
