"""Decoders that do what a hostile file may make a real one do; the content says what."""

import ctypes
import os
import socket
import sys
import time

import numpy as np

from feature_store.extractors.contract import Undecodable


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


def text():
    return {"text": np.array(["a"])}


def undecodable():
    raise Undecodable("image_truncated", "ends in the middle")


DEEDS = {f"{deed.__name__}": deed for deed in (endless, hog, leak, segfault, network, program, file, text, undecodable)}
DEEDS |= {
    "wrong": lambda: {}[1],
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


class Broken:
    """Cannot be made."""

    def __init__(self, params):
        raise OSError("no library")
