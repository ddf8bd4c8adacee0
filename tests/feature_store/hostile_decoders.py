"""Decoders that do what a hostile file may make a real one do; the content says what."""

import ctypes
import errno
import json
import os
import platform
import socket
import sys
import time
from pathlib import Path

import numpy as np

from feature_store.extractors.contract import Undecodable
from feature_store.system_calls import FORBIDDEN, OPENING, SIGNALLING


def endless():
    while True:
        pass


def hog():
    return {"much": np.ones(10 << 30, np.uint8)}


def leak():
    kept = []
    while True:
        kept.append(bytearray(b"x" * (64 << 20)))


def segfault():
    ctypes.string_at(0)


def network():
    socket.socket()


def program():
    os.execv("/bin/true", ["true"])


def file():
    with open(f"/tmp/written-by-{os.getpid()}", "wb") as written:
        written.write(b"x")
        written.flush()


def parent():
    Path(f"/proc/{os.getppid()}/environ").read_bytes()


def reads():
    Path(__file__).read_bytes()
    Path("/proc/self/statm").read_bytes()
    os.listdir(f"/proc/{os.getpid()}/..")


def signals():
    os.kill(os.getppid(), 0)


def environment():
    return {"names": np.frombuffer(json.dumps(dict(os.environ)).encode(), np.uint8)}


def refused_calls():
    """Which of the forbidden calls fail with EPERM, whatever their arguments; and those that must not."""
    libc = ctypes.CDLL(None, use_errno=True)

    def refused(numbers, *arguments):
        number = getattr(numbers, platform.machine())
        return number is None or (libc.syscall(number, *arguments) == -1 and ctypes.get_errno() == errno.EPERM)

    bad = (-1, -1, -1, -1)  # even if one were let through, it would do nothing
    found = {name: refused(numbers, *bad) for name, numbers in FORBIDDEN.items()}
    for name, (numbers, place) in OPENING.items():
        for flags in (os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC, os.O_RDONLY | os.O_CREAT):
            found[f"{name} {flags}"] = refused(numbers, *[-1] * place, flags)
    found |= {f"{name} other": refused(numbers, 1, 0, 0) for name, numbers in SIGNALLING.items()}
    allowed = refused(SIGNALLING["kill"], os.getpid(), 0) or not Path(os.__file__).read_bytes()
    return {
        "let_through": np.frombuffer(" ".join(name for name, no in found.items() if not no).encode(), np.uint8),
        "allowed": np.array(allowed),
    }


def text():
    return {"text": np.array(["a"])}


def undecodable():
    raise Undecodable("image_truncated", "ends in the middle")


DEEDS = {f"{deed.__name__}": deed for deed in (endless, hog, leak, segfault, network, program, file, text, undecodable)}
DEEDS |= {deed.__name__: deed for deed in (parent, reads, signals, environment, refused_calls)}
DEEDS |= {
    "wrong": lambda: {}[1],
    "abort": os.abort,
    "exit": lambda: os._exit(3),
    "prints": lambda: print("to standard output") or {"n": np.int64(1).reshape(())},
    "nonsense": lambda: os.write(3, b"\xff" * 64) and endless(),
    "torch": lambda: {"loaded": np.array("torch" in sys.modules)},
    "ten_ms": lambda: time.sleep(0.01) or {},
}


class Hostile:
    """Does what the content says; of any other content, its bytes and their sum, and which process it was."""

    def __init__(self, params):
        self.params = params

    def decode(self, content):
        if content.decode("latin-1") in DEEDS:
            return DEEDS[content.decode()]()
        found = np.frombuffer(content, np.uint8)
        return {"bytes": found, "sum": np.array(found.sum(dtype=np.int64)), "pid": np.array(os.getpid()), "empty": np.zeros((0, 3), "f4")}


class HostileImages(Hostile):
    """The same, answering as the check of images does."""

    def decode(self, content):
        super().decode(content)
        return {"size": np.array([1, 1], np.int32), "format": np.frombuffer(b"PNG", np.uint8)}


class Broken:
    """Cannot be made."""

    def __init__(self, params):
        raise OSError("no library")


class LyingDecoder:
    """Says of any photo what cannot be."""

    def __init__(self, rules):
        pass

    def decode(self, content):
        return {"size": np.array([-5, 7], np.int32), "pdq": np.zeros(32, np.uint8), "quality": np.array(99, np.int32)}
