"""Pictures, sounds and short clips of the sample world, made of shapes, words, noise and tones: what they hold, no caption tells."""

import io
import random
import wave

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

# kind -> the policy it breaks; a sunset is as red as gore, and a sign has words as a banner has.
KINDS: dict[str, str | None] = {"gore": "graphic_violence", "banner": "spam", "sunset": None, "sign": None, "scene": None}

SIDE_PX = (112, 160)
_JPEG_QUALITY = 80
_OFFERS = ("SALE", "WIN", "FREE", "-80%", "CASH", "GRATIS", "PROMO", "BONUS")
_SIGNS = ("OPEN", "MUSEUM", "BUS 12", "PARK", "CAFE", "EXIT B", "SCHOOL", "RADIO")

_Color = tuple[int, int, int]

# What is heard -> the policy it breaks; steps are as sudden as shots, but deep and soft.
SOUNDS: dict[str, str | None] = {"shots": "dangerous_content", "steps": None, "melody": None}

RATE_HZ = 16_000
_FRAMES_PER_S = 5
_CLIP_SIZE = (128, 96)  # pixels, of a clip
_SCALE_HZ = (262.0, 294.0, 330.0, 392.0, 440.0, 523.0)

Samples = NDArray[np.int16]


def draw(kind: str, rng: random.Random) -> bytes:
    """Draw one picture of a kind among KINDS; the same random stream gives the same bytes.

    Returns:
        a JPEG file without metadata, each side within SIDE_PX pixels.
    """
    width, height = rng.randint(*SIDE_PX), rng.randint(*SIDE_PX)
    image = Image.new("RGB", (width, height), _mixed(rng, 90, 230))
    _PAINTERS[kind](ImageDraw.Draw(image), width, height, rng)
    image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.8)))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=_JPEG_QUALITY)
    return file.getvalue()


def _gore(pen: ImageDraw.ImageDraw, width: int, height: int, rng: random.Random) -> None:
    """A pale figure and irregular red splatter with drops around it."""
    _figure(pen, width, height, rng)
    for _ in range(rng.randint(2, 4)):
        x, y = rng.uniform(0.2, 0.8) * width, rng.uniform(0.3, 0.9) * height
        color = (rng.randint(120, 200), rng.randint(0, 30), rng.randint(0, 30))
        radius = rng.uniform(0.07, 0.16) * width
        pen.polygon([(x + rng.gauss(0, radius), y + rng.gauss(0, radius)) for _ in range(rng.randint(7, 12))], fill=color)
        for _ in range(rng.randint(5, 12)):
            _disc(pen, x + rng.gauss(0, 2 * radius), y + rng.gauss(0, 2 * radius), rng.uniform(1, 4), color)


def _banner(pen: ImageDraw.ImageDraw, width: int, height: int, rng: random.Random) -> None:
    """A loud bar with an offer, and a disc with a price."""
    top = _bar(pen, width, height, rng.choice(_OFFERS), rng)
    x, y = rng.uniform(0.25, 0.75) * width, (0.82 if top < 0.4 * height else 0.15) * height
    _disc(pen, x, y, 0.14 * height, (220, 0, 0))
    pen.text((x - 0.1 * height, y - 0.06 * height), f"{rng.randint(9, 99)}$", fill=(255, 255, 255), font=_font(0.12 * height))


def _bar(pen: ImageDraw.ImageDraw, width: int, height: int, word: str, rng: random.Random) -> float:
    top = rng.uniform(0.1, 0.5) * height
    pen.rectangle((0, top, width, top + 0.32 * height), fill=rng.choice(((250, 220, 0), (255, 80, 0), (240, 0, 120), (0, 200, 60))))
    pen.text((0.08 * width, top + 0.04 * height), word, fill=_mixed(rng, 0, 60), font=_font(0.2 * height))
    return top


def _sunset(pen: ImageDraw.ImageDraw, width: int, height: int, rng: random.Random) -> None:
    """A red sky over the sea, or a bowl of red fruit."""
    if rng.random() < 0.5:
        for line in range(height):
            pen.line((0, line, width, line), fill=(230 - line // 3, max(120 - line, 20), 40))
        _disc(pen, rng.uniform(0.2, 0.8) * width, 0.55 * height, 0.15 * height, (250, 120, 30))
        pen.rectangle((0, 0.7 * height, width, height), fill=(60, 20, 60))
        return
    for _ in range(rng.randint(7, 14)):
        _disc(pen, rng.uniform(0.2, 0.8) * width, rng.uniform(0.4, 0.75) * height, rng.uniform(6, 12), (rng.randint(150, 220), 20, 30))
    pen.chord((0.1 * width, 0.4 * height, 0.9 * width, 1.1 * height), 0, 180, fill=_mixed(rng, 140, 240))


def _sign(pen: ImageDraw.ImageDraw, width: int, height: int, rng: random.Random) -> None:
    """A plate on a pole with a word on it, or a shop's name as loud as any offer."""
    if rng.random() < 0.5:
        _bar(pen, width, height, rng.choice(_SIGNS), rng)
        return
    pen.line((width / 2, 0.4 * height, width / 2, height), fill=(90, 90, 90), width=4)
    top = rng.uniform(0.15, 0.35) * height
    pen.rectangle((0.1 * width, top, 0.9 * width, top + 0.3 * height), fill=_mixed(rng, 20, 200), outline=(250, 250, 250))
    pen.text((0.16 * width, top + 0.06 * height), rng.choice(_SIGNS), fill=(250, 250, 250), font=_font(0.15 * height))


def _scene(pen: ImageDraw.ImageDraw, width: int, height: int, rng: random.Random) -> None:
    """Hills, a house and perhaps somebody in front of it."""
    horizon = rng.uniform(0.45, 0.65) * height
    pen.rectangle((0, horizon, width, height), fill=(rng.randint(40, 110), rng.randint(120, 180), rng.randint(40, 90)))
    left, size = rng.uniform(0.1, 0.6) * width, rng.uniform(0.2, 0.35) * width
    pen.rectangle((left, horizon - 0.6 * size, left + size, horizon + 0.3 * size), fill=_mixed(rng, 120, 240))
    roof = [(left - 4, horizon - 0.6 * size), (left + size / 2, horizon - 1.1 * size), (left + size + 4, horizon - 0.6 * size)]
    pen.polygon(roof, fill=(rng.randint(120, 200), 60, 40))
    if rng.random() < 0.6:
        _figure(pen, width, height, rng)


def _figure(pen: ImageDraw.ImageDraw, width: int, height: int, rng: random.Random) -> None:
    x, y, size = rng.uniform(0.3, 0.7) * width, rng.uniform(0.35, 0.5) * height, rng.uniform(0.08, 0.13) * height
    skin = rng.choice(((240, 205, 175), (200, 150, 110), (130, 90, 60)))
    pen.rounded_rectangle((x - size, y + size, x + size, y + 4 * size), 6, fill=_mixed(rng, 30, 220))
    _disc(pen, x, y, size, skin)


def _disc(pen: ImageDraw.ImageDraw, x: float, y: float, radius: float, color: _Color) -> None:
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color)


def _mixed(rng: random.Random, low: int, high: int) -> _Color:
    return rng.randint(low, high), rng.randint(low, high), rng.randint(low, high)


def _font(size_px: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size_px)


_PAINTERS = {"gore": _gore, "banner": _banner, "sunset": _sunset, "sign": _sign, "scene": _scene}


def sound(kind: str, rng: random.Random) -> Samples:
    """Two to four seconds of a kind among SOUNDS, int16 (N,), RATE_HZ samples a second; the same random stream gives the same samples."""
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
    """An MP4 file that shows a scene, cuts to a picture of one kind (of KINDS), and cuts back, as long as the sound heard meanwhile.

    The same random stream gives the same bytes with the same FFmpeg.
    """
    import av  # the world's posts without clips need no FFmpeg

    calm, shown = (Image.open(io.BytesIO(draw(name, rng))).resize(_CLIP_SIZE) for name in ("scene", kind))
    num_frames = len(samples) * _FRAMES_PER_S // RATE_HZ
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        video = container.add_stream("mpeg4", rate=_FRAMES_PER_S)
        video.width, video.height, video.pix_fmt, video.bit_rate, video.thread_count = *_CLIP_SIZE, "yuv420p", 400_000, 1
        audio = container.add_stream("aac", rate=RATE_HZ)
        for number in range(num_frames):
            picture = shown if num_frames // 3 <= number < 2 * num_frames // 3 else calm
            container.mux(video.encode(av.VideoFrame.from_image(picture)))
        container.mux(video.encode())
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate = RATE_HZ
        container.mux([packet for part in (frame, None) for packet in audio.encode(part)])
    return file.getvalue()
