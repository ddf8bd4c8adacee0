"""Sounds and short clips of the sample world, made of noise, tones and its drawn pictures: what they hold, no caption tells."""

import io
import random
import wave

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from upheld.feature_store.sample_world import pictures

# What is heard -> the policy it breaks; steps are as sudden as shots, but deep and soft.
SOUNDS: dict[str, str | None] = {"shots": "dangerous_content", "steps": None, "melody": None}

RATE_HZ = 16_000
_FRAMES_PER_S = 5
_SIZE = (128, 96)  # pixels, of a clip
_SCALE_HZ = (262.0, 294.0, 330.0, 392.0, 440.0, 523.0)

Samples = NDArray[np.int16]


def sound(kind: str, rng: random.Random) -> Samples:
    """Two to four seconds of one kind.

    Args:
        kind: one of SOUNDS.
        rng: its random stream; the same stream gives the same samples.

    Returns:
        int16 (N,), RATE_HZ samples a second.
    """
    noise = np.random.default_rng(rng.getrandbits(32))
    length = round(rng.uniform(2, 4) * RATE_HZ)
    heard = noise.normal(0, 0.004, length)
    for start in sorted(rng.randrange(length) for _ in range(rng.randint(4, 8))):
        left = length - start
        time_s = np.arange(left) / RATE_HZ
        if kind == "shots":
            heard[start:] += noise.normal(0, 0.5, left) * np.exp(-time_s * 40)
        elif kind == "steps":
            heard[start:] += 0.4 * np.sin(2 * np.pi * rng.uniform(60, 110) * time_s) * np.exp(-time_s * 25)
        else:
            heard[start:] += 0.2 * np.sin(2 * np.pi * rng.choice(_SCALE_HZ) * time_s) * np.exp(-time_s * 3)
    clipped: Samples = (np.clip(heard, -1, 1) * 32767).astype(np.int16)
    return clipped


def wav(samples: Samples) -> bytes:
    """A WAV file of one channel."""
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setnchannels(1)
        written.setsampwidth(2)
        written.setframerate(RATE_HZ)
        written.writeframes(samples.tobytes())
    return file.getvalue()


def clip(kind: str, samples: Samples, rng: random.Random) -> bytes:
    """An MP4 file that shows a scene, cuts to a picture of one kind, and cuts back, as long as its sound.

    Args:
        kind: one of `images.KINDS`.
        samples: what is heard meanwhile.
        rng: its random stream; the same stream gives the same bytes with the same FFmpeg.
    """
    import av  # the world's posts without clips need no FFmpeg

    calm, shown = (_picture(name, rng) for name in ("scene", kind))
    num_frames = len(samples) * _FRAMES_PER_S // RATE_HZ
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        video = container.add_stream("mpeg4", rate=_FRAMES_PER_S)
        video.width, video.height, video.pix_fmt, video.bit_rate, video.thread_count = *_SIZE, "yuv420p", 400_000, 1
        audio = container.add_stream("aac", rate=RATE_HZ)
        for number in range(num_frames):
            picture = shown if num_frames // 3 <= number < 2 * num_frames // 3 else calm
            container.mux(video.encode(av.VideoFrame.from_image(picture)))
        container.mux(video.encode())
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate = RATE_HZ
        container.mux([packet for part in (frame, None) for packet in audio.encode(part)])
    return file.getvalue()


def _picture(kind: str, rng: random.Random) -> Image.Image:
    with Image.open(io.BytesIO(pictures.draw(kind, rng))) as image:
        return image.resize(_SIZE)
