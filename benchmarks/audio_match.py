"""How far apart are re-uploads of a sound and other sounds? Real clips, changed in seven ways, against each other.

usage: python benchmarks/audio_match.py [--data ../shared/data]

Clips are those of speech_8lang and video_clips, of 2 s or more, in which there is any landmark. Halves begin at 30 % of the clip,
between two hops of the transform. The last line is `ratio N`: the lowest share of landmarks in line of a re-upload, AAC at
32 kbit/s set aside, over the highest of two different recordings.
"""

import argparse
import datetime
import io
import itertools
import platform
import subprocess
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from upheld.common.params import params as parameters
from upheld.feature_store.decoding.audio import RATE_HZ, read_samples
from upheld.feature_store.decoding.contract import Undecodable
from upheld.feature_store.extractors.audio.fingerprint import Fingerprint, compare, is_same, landmarks

SAME_FILM = {"big_buck_bunny_0_30.webm", "doc_medias__example2.mp4"}  # the second is an excerpt of the first
MIN_S = 2.0  # shorter clips have few landmarks
Samples = NDArray[np.int16]


def main() -> None:
    """Compare and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    args = parser.parse_args()
    params = parameters.load(args.params)
    settings = params.audio_fingerprint
    sounds = read_sounds(args.data, params)
    known = {name: fingerprint(samples, params) for name, samples in sounds.items()}
    sounds = {name: samples for name, samples in sounds.items() if len(known[name].hashes)}
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    print(f"{datetime.date.today()} · {platform.machine()} · commit {commit} · {settings.model_dump()}")
    print(f"{len(sounds)} clips, {sum(map(len, sounds.values())) / RATE_HZ:.0f} s\n")
    print(f"{'':24}{'pairs':>6}{'matched':>8}{'least share':>13}{'median':>8}{'most':>7}{'least / most in line':>22}")
    ways: dict[str, list[tuple[float, int, bool]]] = {}
    for name, samples in sounds.items():
        for way, changed in changes(samples, params).items():
            match = compare(known[name], fingerprint(changed, params))
            ways.setdefault(way, []).append((match.share, match.num_aligned, is_same(match, settings)))
    pairs = [(compare(known[a], known[b]), {a, b}) for a, b in itertools.combinations(sounds, 2)]
    ways["excerpt of the film"] = [(m.share, m.num_aligned, is_same(m, settings)) for m, names in pairs if names == SAME_FILM]
    others = [(m.share, m.num_aligned, is_same(m, settings)) for m, names in pairs if names != SAME_FILM]
    for way, found in [*ways.items(), ("other recordings", others)]:
        shares, aligned = [share for share, _, _ in found], [count for _, count, _ in found]
        print(
            f"{way:24}{len(found):>6}{sum(same for *_, same in found):>8}{min(shares):>13.3f}{np.median(shares):>8.3f}{max(shares):>7.3f}",
            end="",
        )
        print(f"{min(aligned):>14} / {max(aligned)}")
    good = min(share for way, found in ways.items() if "32k" not in way for share, *_ in found)
    print(f"ratio {good / max(share for share, *_ in others):.1f}")


def read_sounds(folder: Path, params: parameters.Params) -> dict[str, Samples]:
    """Samples of every clip that has a sound, by file name."""
    sounds = {}
    for path in sorted([*(folder / "speech_8lang/wav").iterdir(), *(folder / "video_clips/media").iterdir()]):
        try:
            samples = read_samples(path.read_bytes(), params.audio_bounds)
        except Undecodable:
            continue
        if len(samples) >= MIN_S * RATE_HZ:
            sounds[path.name] = samples
    return sounds


def fingerprint(samples: Samples, params: parameters.Params) -> Fingerprint:
    """Landmarks as the extractor makes them."""
    return Fingerprint(*landmarks(samples, params.audio_fingerprint.peaks_per_s, params.audio_fingerprint.fan_out))


def changes(samples: Samples, params: parameters.Params) -> dict[str, Samples]:
    """What a re-upload does to a sound."""
    start = int(0.3 * len(samples)) + 77
    cut = samples[start : start + len(samples) // 2]
    return {
        "20 dB quieter": np.round(samples * 0.1).astype(np.int16),
        "6 dB louder, clipped": np.clip(samples.astype(np.int32) * 2, -32768, 32767).astype(np.int16),
        "MP3 64k": encoded(samples, "libmp3lame", "mp3", 64_000, params),
        "AAC 64k": encoded(samples, "aac", "mp4", 64_000, params),
        "half of it": cut,
        "half of it, MP3 64k": encoded(cut, "libmp3lame", "mp3", 64_000, params),
        "half of it, AAC 32k": encoded(cut, "aac", "mp4", 32_000, params),
    }


def encoded(samples: Samples, codec: str, container: str, bits_per_s: int, params: parameters.Params) -> Samples:
    """Samples after a codec."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        stream = out.add_stream(codec, rate=RATE_HZ, layout="mono")
        stream.bit_rate = bits_per_s
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate = RATE_HZ
        context = stream.codec_context
        resampler = av.AudioResampler(format=context.format, layout="mono", rate=RATE_HZ, frame_size=context.frame_size or 1024)
        for piece in resampler.resample(frame) + resampler.resample(None):
            piece.pts = None
            out.mux(stream.encode(piece))
        out.mux(stream.encode(None))
    return read_samples(file.getvalue(), params.audio_bounds)


if __name__ == "__main__":
    main()
