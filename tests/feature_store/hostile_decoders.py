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

from upheld.feature_store.decoding.contract import Undecodable
from upheld.feature_store.sandbox import confinement, protocol
from upheld.feature_store.sandbox.confinement import FORBIDDEN, OPENING, SIGNALLING


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
    Path(confinement.__file__).read_bytes()
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


def answers(header, payload=b""):
    """Write a frame of our own in place of the worker's answer; `NUMBER` is the number that was asked for."""
    if isinstance(header, str):
        header = header.replace("NUMBER", str(number_asked())).encode()
    os.write(3, protocol.LENGTHS.pack(len(header), len(payload)) + header + payload)
    endless()


def number_asked():
    """As code that has taken over the worker finds it out."""
    return next(frame.f_locals["request"][0]["number"] for frame in frames() if "request" in frame.f_locals)


def frames():
    frame = sys._getframe()
    while frame is not None:
        yield frame
        frame = frame.f_back


def twice():
    """Answer for this content and, in advance, for the one that comes next."""
    header = json.dumps({"number": number_asked(), "arrays": [["sum", "<i8", []]]}).encode()
    os.write(3, (protocol.LENGTHS.pack(len(header), 8) + header + (666).to_bytes(8, "little")) * 2)
    os._exit(0)


def slips():
    """Answer, and then let the worker answer, too."""
    header = json.dumps({"number": number_asked(), "arrays": []}).encode()
    os.write(3, protocol.LENGTHS.pack(len(header), 0) + header)
    return {"sum": np.array(666)}


def looks(path):
    """What the path holds, or why not."""
    try:
        return {"found": np.frombuffer(Path(path).read_bytes() if not Path(path).is_dir() else repr(os.listdir(path)).encode(), np.uint8)}
    except OSError as error:
        raise Undecodable("looked", type(error).__name__) from error


# Answers that no decoder gives, each in the place of one.
MALFORMED = {
    "nested": "[" * 1_000_000,
    "nested object": '{"a":' * 100_000,
    "no json": "\x00",
    "no utf8": b"\xff\xfe{",
    "a list": "[1, 2]",
    "a number": "7",
    "empty": "{}",
    "another number": '{"number": -1, "arrays": []}',
    "no arrays": '{"number": NUMBER}',
    "broken": '{"number": NUMBER, "broken": "give up the run"}',
    "only broken": '{"broken": "give up the run"}',
    "huge shape": '{"number": NUMBER, "arrays": [["r", "|u1", [1' + "0" * 30 + "]]]}",
    "huge empty shape": '{"number": NUMBER, "arrays": [["r", "|u1", [0, 1' + "0" * 30 + "]]]}",
    "many dimensions": '{"number": NUMBER, "arrays": [["r", "|u1", [%s0]]]}' % ("1, " * 99),
    "objects": '{"number": NUMBER, "arrays": [["r", "|O", [1]]]}',
    "no dtype": '{"number": NUMBER, "arrays": [["r", 7, [1]]]}',
    "arrays of nothing": '{"number": NUMBER, "arrays": 5}',
    "more than sent": '{"number": NUMBER, "arrays": [["r", "|u1", [5]]]}',
    "odd reason": '{"number": NUMBER, "refused": ["\\u001b[31m", ""]}',
    "long reason": '{"number": NUMBER, "refused": ["%s", ""]}' % ("a" * 999),
    "reason of numbers": '{"number": NUMBER, "refused": [1, 2]}',
    "three reasons": '{"number": NUMBER, "refused": ["a", "b", "c"]}',
    "no reasons": '{"number": NUMBER, "refused": null}',
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


DEEDS |= {"twice": twice, "slips": slips} | {name: lambda said=said: answers(said) for name, said in MALFORMED.items()}


class Hostile:
    """Does what the content says; of any other content, its bytes and their sum, and which process it was."""

    def __init__(self, params):
        self.params = params

    def decode(self, content):
        if content.decode("latin-1") in DEEDS:
            return DEEDS[content.decode()]()
        if content.startswith(b"look "):
            return looks(content[5:].decode())
        found = np.frombuffer(content, np.uint8)
        return {"bytes": found, "sum": np.array(found.sum(dtype=np.int64)), "pid": np.array(os.getpid()), "empty": np.zeros((0, 3), "f4")}


# Of images, what the check of images does not say.
IMAGES = {
    "negative": {"size": np.array([-5, 7], np.int32)},
    "none wide": {"size": np.array([0, 7], np.int32)},
    "too large": {"size": np.array([1 << 30, 1 << 30], np.int32)},
    "3x3": {"size": np.ones((3, 3), np.int32)},
    "one side": {"size": np.array([5], np.int32)},
    "real numbers": {"size": np.array([1.5, 2.5], np.float32)},
    "numbers of bits": {"size": np.array([1, 1], np.int64)},
    "unheard format": {"format": np.frombuffer(b"PNG\x1b[31m", np.uint8)},
    "binary format": {"format": np.frombuffer(b"\xff\xfe", np.uint8)},
    "long format": {"format": np.zeros(1 << 20, np.uint8)},
    "wide format": {"format": np.array([80, 78, 71], np.int32)},
    "something else": {"more": np.zeros(3)},
}


class HostileImages(Hostile):
    """The same, answering as the check of images does."""

    def decode(self, content):
        super().decode(content)
        return {"size": np.array([1, 1], np.int32), "format": np.frombuffer(b"PNG", np.uint8)} | IMAGES.get(content.decode("latin-1"), {})


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
