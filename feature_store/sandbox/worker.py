"""A process that turns foreign bytes into arrays, one content after the other, and may be killed at any time.

Started by `feature_store/sandbox/pool.py`; it reads requests from standard input and answers on what was standard output. Torch is
never imported here: a decoder has no weights.
"""

import json
import os
import queue
import sys
import threading
from typing import Any, BinaryIO

from upheld.feature_store.decoding.contract import Undecodable, load_class
from upheld.feature_store.sandbox import confinement
from upheld.feature_store.sandbox.protocol import LENGTHS, pack, pack_arrays


def main() -> None:
    """Answer requests until there are no more."""
    confinement.die_with_parent()
    answers = os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 1)  # libraries print
    os.dup2(nothing, 2)
    first = _read(sys.stdin.buffer)
    if first is None:
        return
    try:
        settings = load_class(first[0]["model"]).model_validate_json(first[0]["params"])
        decoder = load_class(first[0]["decoder"])(settings)
        confinement.confine(first[0]["memory_bytes"])
    except Exception as error:
        _write(answers, pack({"broken": f"{type(error).__name__}: {error}"}))
        return
    _write(answers, pack({"ready": True}))
    requests: queue.Queue[tuple[Any, bytes] | None] = queue.Queue(1)  # the next content is read while one is decoded

    def fetch() -> None:
        while (frame := _read(sys.stdin.buffer)) is not None:
            requests.put(frame)
        requests.put(None)

    threading.Thread(target=fetch, daemon=True).start()
    while (request := requests.get()) is not None:
        answer, last = _answer(decoder, request[1], {"number": request[0]["number"]})
        _write(answers, answer)
        if last:
            os._exit(0)


def _answer(decoder: Any, content: bytes, to: dict[str, Any]) -> tuple[list[memoryview], bool]:
    """The answer's frame, and whether it is the last: what ran out of memory once is not trusted with another content."""
    try:
        return pack_arrays(decoder.decode(content), to), False
    except Undecodable as error:
        return pack(to | {"refused": [error.refused.reason, error.refused.detail]}), False
    except MemoryError:
        return pack(to | {"refused": ["decode_memory", "needs more than its decode_memory_bytes (params, features)"], "last": True}), True
    except Exception as error:
        return pack(to | {"refused": ["decode_failed", f"{type(error).__name__}: {error}"[:500]]}), False


def _read(stream: BinaryIO) -> tuple[Any, bytes] | None:
    """Header and payload of the next request; None where there is no other."""
    start = stream.read(LENGTHS.size)
    if len(start) < LENGTHS.size:
        return None
    header_bytes, payload_bytes = LENGTHS.unpack(start)
    return json.loads(stream.read(header_bytes)), stream.read(payload_bytes)


def _write(answers: int, frame: list[memoryview]) -> None:
    for part in frame:
        left = part
        while left:
            left = left[os.write(answers, left) :]
