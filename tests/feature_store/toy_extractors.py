"""Extractors whose results are known beforehand, and which do as some contents bid them."""

import ctypes
import os
import resource
import signal
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from upheld.common.errors import FailedWork
from upheld.feature_store.decoding.contract import Refused, Undecodable
from upheld.feature_store.extractors.contract import Extractor

CATALOGUE = {
    name: f"tests.feature_store.toy_extractors:{kind}"
    for name, kind in {"letters": "Letters", "keyframes": "Halves", "brightness": "Sizes", "loudness": "Sounds", "absent": "Absent"}.items()
}


class Letters(Extractor):
    """Length of a text and its first letter; refuses, fails or kills on demand; notes each call in the folder TOY_CALLS."""

    name, kind = "letters", "text"
    columns = pa.schema([("length", pa.int32()), ("vector", pa.list_(pa.float32(), 2))])

    @property
    def version(self):
        return os.environ.get("TOY_VERSION", "1-toy")

    def decode(self, content):
        if content.startswith(b"undecodable"):
            raise Undecodable("toy_undecodable", "asked for")
        if content.startswith(b"segfault"):
            os.kill(os.getpid(), signal.SIGSEGV)
        return super().decode(content)

    def extract(self, batch):
        texts = [arrays["bytes"].tobytes().decode() for arrays in batch]
        if folder := os.environ.get("TOY_CALLS"):
            (Path(folder) / f"{len(list(Path(folder).iterdir())):05d}").write_text("\n".join(texts))
        return [self._one(text) for text in texts]

    def _one(self, text):
        if text.startswith("poison"):
            raise RuntimeError("asked for")
        if text.startswith("wrong type"):
            return {"length": "long", "vector": np.zeros(2, np.float32)}
        if text.startswith("wrong shape"):
            return {"length": 1, "vector": np.zeros(3, np.float32)}
        if text.startswith("not a number"):
            return {"length": 1, "vector": np.full(2, np.nan, np.float32)}
        if text.startswith("no weights"):
            raise FailedWork("the weights are gone; install them")
        if text.startswith("refused"):
            return Refused("toy_refused", "asked for")
        if text.startswith("passing"):
            return Refused("toy_passing", "asked for", passing=True)
        if text.startswith("pause"):
            time.sleep(0.1)
        if text.startswith("tensors"):
            return {"length": page_faults(), "vector": np.zeros(2, np.float32)}
        if text.startswith("kill"):
            os.kill(os.getpid(), signal.SIGKILL)
        return {"length": len(text), "vector": np.array([len(text), ord(text[0])], np.float32)}


def page_faults(times=4, num_bytes=100_000_000):
    """Faults of this thread while it takes memory, writes to it and frees it, after it has done so once."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
    faults = []
    for _ in range(1 + times):
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
        tensor = libc.malloc(num_bytes)
        ctypes.memset(tensor, 1, num_bytes)
        libc.free(tensor)
        faults.append(resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before)
    return sum(faults[1:])


class Halves(Extractor):
    """Two pictures of a video: its bytes' halves."""

    name, kind = "keyframes", "video"
    columns = pa.schema(
        [
            ("frames", pa.list_(pa.struct([("digest", pa.string()), ("jpeg", pa.large_binary())]))),
            ("frame_digests", pa.list_(pa.string())),
        ]
    )
    version = "1-toy"

    def extract(self, batch):
        from upheld.feature_store.contracts.hashing import of_bytes

        halves = [[arrays["bytes"][: len(arrays["bytes"]) // 2], arrays["bytes"][len(arrays["bytes"]) // 2 :]] for arrays in batch]
        frames = [[{"digest": of_bytes(half.tobytes()), "jpeg": half.tobytes()} for half in two] for two in halves]
        return [{"frames": two, "frame_digests": [frame["digest"] for frame in two]} for two in frames]


class Sizes(Extractor):
    """Number of bytes of a picture."""

    name, kind = "brightness", "image"
    columns = pa.schema([("num_bytes", pa.int64())])
    version = "1-toy"

    def extract(self, batch):
        return [{"num_bytes": len(arrays["bytes"])} for arrays in batch]


class Sounds(Sizes):
    """The same of what may hold sound."""

    name, kind = "loudness", "audio"


class Absent(Sizes):
    """Cannot run."""

    name = "absent"

    def unavailable(self):
        return "no weights; name some in params absent.model"
