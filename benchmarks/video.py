"""How long do all features of one video take? A minute of 720p in which everything moves, with speech in several languages.

usage: python benchmarks/video.py [--data ../shared/data/speech_8lang]

Runs every extractor that is available here: of video and sound on the file, of images on its keyframes. Bytes are decoded in
worker processes, as in a run; each extractor starts its own, and starting and loading weights count. The last line is
`ratio N`: 60 / seconds for all of it.
"""

import argparse
import datetime
import io
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from upheld.common.params import params as parameters
from upheld.feature_store.decoding.audio import RATE_HZ, read_samples
from upheld.feature_store.decoding.contract import Refused
from upheld.feature_store.extractors import catalogue
from upheld.feature_store.sandbox.pool import DecodePool, num_cpus

WIDTH, HEIGHT, FRAMES_PER_S, DURATION_S = 1280, 720, 25, 60
SCENE_S = 7  # a cut after so many seconds
SPOKEN = (
    "test.wav",
    "test_de.wav",
    "test_es.wav",
    "test_fr.wav",
    "test_it.wav",
    "test_ja.wav",
    "test_ko.wav",
    "test_pt.wav",
    "diarization_test.wav",
)


def main() -> None:
    """Make the video, run the extractors and print how long each took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/speech_8lang"))
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    args = parser.parse_args()
    params = parameters.load(args.params, args.set)
    content = make_video(spoken(args.data, params))
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    threads = os.environ.get("OMP_NUM_THREADS", "unset")
    print(f"{datetime.date.today()} · {platform.machine()}, {num_cpus()} CPUs, OMP_NUM_THREADS={threads} · commit {commit}")
    print(f"{DURATION_S} s of {WIDTH} x {HEIGHT}, {FRAMES_PER_S} frames/s, {len(content) / 1e6:.1f} MB\n")
    total_s, frames = 0.0, []
    for name in catalogue.EXTRACTORS:
        extractor = catalogue.make(name, params)
        contents = {"video": [content], "audio": [content], "image": frames}.get(extractor.kind, [])
        if extractor.unavailable() or not contents:
            print(f"{name:20}{'-':>8}  {extractor.unavailable() or 'nothing for it here'}")
            continue
        began = time.perf_counter()
        with DecodePool(catalogue.EXTRACTORS[name], params, params.features.decode_timeout_s[extractor.kind], num_cpus()) as pool:
            arrays = list(pool.decode(contents, len(contents)))
            if refused := [answer for answer in arrays if isinstance(answer, Refused)]:
                raise SystemExit(f"a generated content was refused: {refused[0]}")
            rows = extractor.extract(arrays)
        took_s = time.perf_counter() - began
        total_s += took_s
        print(f"{name:20}{took_s:8.2f}  {short_values(rows)}")
        if name == "keyframes":
            frames = [frame["jpeg"] for frame in rows[0]["frames"]]
    print(f"\nall {total_s:.2f} s\nratio {60 / total_s:.2f}")


def short_values(rows: list[Any]) -> str:
    """A row's short values, its lists by their length."""
    row = rows[0]
    parts = []
    for name, value in row.items():
        if isinstance(value, float):
            parts.append(f"{name} {value:.3f}")
        elif isinstance(value, bytes | list):
            parts.append(f"{name} [{len(value)}]")
        else:
            parts.append(f"{name} {str(value)[:60]}")
    return f"{len(rows)} x " * (len(rows) > 1) + ", ".join(parts)


def spoken(folder: Path, params: parameters.Params) -> NDArray[np.int16]:
    """A minute of speech: the clips one after the other."""
    pieces = [read_samples((folder / "wav" / name).read_bytes(), params.audio_bounds) for name in SPOKEN]
    together = np.concatenate(pieces)
    return np.resize(together, DURATION_S * RATE_HZ)


def make_video(sound: NDArray[np.int16]) -> bytes:
    """Scenes in which a textured ground pans and a block crosses it, as H.264 and AAC in MP4."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=FRAMES_PER_S, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        track = out.add_stream("aac", rate=48_000, layout="mono")
        for number in range(DURATION_S * FRAMES_PER_S):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number), format="rgb24")))
        out.mux(stream.encode(None))
        heard = av.AudioFrame.from_ndarray(sound.reshape(1, -1), format="s16", layout="mono")
        heard.sample_rate = RATE_HZ
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=48_000, frame_size=1024)
        for piece in resampler.resample(heard) + resampler.resample(None):
            piece.pts = None
            out.mux(track.encode(piece))
        out.mux(track.encode(None))
    return file.getvalue()


def picture(number: int) -> NDArray[np.uint8]:
    """Frame `number` of the video, (720, 1280, 3)."""
    random = np.random.default_rng(number // (SCENE_S * FRAMES_PER_S))
    texture = random.normal(0, 30, (HEIGHT // 16, WIDTH // 16, 1)).repeat(16, 0).repeat(16, 1)
    ground = np.clip(random.integers(40, 216, 3) + texture, 0, 255).astype(np.uint8)
    shown = np.roll(ground, (number * 2, number * 5), (0, 1))
    left, top = number * 9 % (WIDTH - 200), number * 3 % (HEIGHT - 200)
    shown[top : top + 200, left : left + 200] = random.integers(0, 256, 3)
    return shown


if __name__ == "__main__":
    main()
