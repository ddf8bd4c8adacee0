"""How well is speech transcribed? Word error rate per language, character error rate where words are not set apart.

usage: python benchmarks/transcripts.py [--data ../shared/data/speech_8lang] [--set transcript.compute_type=float32]

Case and punctuation do not count. The last line is `ratio N`: the share of English words that
are right over 0.85, what is asked for at least.
"""

import argparse
import datetime
import os
import platform
import subprocess
import time
import unicodedata
from pathlib import Path

import jiwer
import pyarrow.parquet as pq

from upheld.common.params import params as parameters
from upheld.feature_store.decoding.audio import RATE_HZ
from upheld.feature_store.extractors.audio.transcript import Transcript

BY_CHARACTER = {"ja", "ko", "zh"}
ASKED = 0.85  # share of English words that must be right


def main() -> None:
    """Transcribe the clips and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/speech_8lang"))
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    args = parser.parse_args()
    params = parameters.load(args.params, args.set)
    extractor = Transcript(params)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    print(f"{datetime.date.today()} · {platform.machine()}, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')} · commit {commit}")
    print(f"transcript: {params.transcript.model_dump()}, version {extractor.version}\n")
    print(f"{'file':22}{'spoken':8}{'heard':8}{'seconds':>8}{'took s':>8}  {'error rate':12}text")
    english = 1.0
    for clip in sorted(pq.read_table(args.data / "clips.parquet").to_pylist(), key=lambda clip: clip["file"]):
        arrays = extractor.decode((args.data / clip["file"]).read_bytes())
        began = time.perf_counter()
        (row,) = extractor.extract([arrays])
        took_s = time.perf_counter() - began
        error = ""
        if clip["transcript"]:
            measure = "CER" if clip["lang"] in BY_CHARACTER else "WER"
            rate = error_rate(clip["transcript"], row["text"], measure)
            error = f"{measure} {rate:.3f}"
            english = rate if clip["lang"] == "en" else english
        seconds = len(arrays["samples"]) / RATE_HZ
        name = Path(clip["file"]).name
        print(f"{name:22}{clip['lang'] or '-':8}{row['language']:8}{seconds:8.2f}{took_s:8.2f}  {error:12}{row['text']!r}")
    print(f"ratio {(1 - english) / ASKED:.2f}")


def error_rate(spoken: str, heard: str, measure: str) -> float:
    """Share of words (WER) or characters (CER) to change, drop or add."""
    if measure == "WER":
        return float(jiwer.wer(plain(spoken), plain(heard)))
    return float(jiwer.cer(plain(spoken).replace(" ", ""), plain(heard).replace(" ", "")))


def plain(text: str) -> str:
    """Composed characters in lower case, without punctuation and symbols."""
    return "".join(sign for sign in unicodedata.normalize("NFC", text).lower() if unicodedata.category(sign)[0] not in "PS")


if __name__ == "__main__":
    main()
