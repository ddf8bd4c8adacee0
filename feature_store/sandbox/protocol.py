"""How a decoder's worker and its owner talk: frames of a JSON header and raw bytes; nothing that arrives is ever unpickled.

A frame is uint32 length of the header, uint64 length of the payload, both little-endian, then the two.
"""

import json
import math
import re
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from upheld.feature_store.decoding.contract import Arrays

LENGTHS = struct.Struct("<IQ")
MAX_HEADER_BYTES = 1 << 20
_NUMBERS = re.compile(r"[<|](b1|[iu][1248]|f[248])")  # what may cross: plain numbers, little-endian


class BadFrame(ValueError):
    """What arrived is no frame of ours."""


def pack(header: dict[str, Any], payload: Sequence[Any] = ()) -> list[memoryview]:
    """A frame as buffers to be written one after the other: the header as JSON, then the contiguous buffers of the payload."""
    text = json.dumps(header, separators=(",", ":")).encode()
    parts = [memoryview(part).cast("B") for part in payload if memoryview(part).nbytes]
    return [memoryview(LENGTHS.pack(len(text), sum(part.nbytes for part in parts)) + text), *parts]


def pack_arrays(arrays: Arrays, header: dict[str, Any]) -> list[memoryview]:
    """The frame that holds arrays, with what else its header says.

    Raises:
        BadFrame: one of them does not hold plain numbers.
    """
    flat = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    for name, array in flat.items():
        if not _NUMBERS.fullmatch(array.dtype.str):
            raise BadFrame(f"array {name} holds {array.dtype}; decoders hand over plain numbers")
    announced = [[name, array.dtype.str, list(array.shape)] for name, array in flat.items()]
    return pack(header | {"arrays": announced}, [array.reshape(-1) for array in flat.values()])


def unpack_arrays(announced: Any, payload: bytearray) -> Arrays:
    """The arrays of a frame, as views of its payload.

    Raises:
        BadFrame: header and payload do not fit.
    """
    arrays: Arrays = {}
    start = 0
    try:
        for name, dtype, shape in announced:
            if not _NUMBERS.fullmatch(dtype) or any(type(size) is not int or size < 0 for size in shape):
                raise BadFrame(f"an array of {dtype} {shape}")
            arrays[str(name)] = np.frombuffer(payload, dtype, math.prod(shape), start).reshape(shape)
            start += arrays[str(name)].nbytes
    except (TypeError, ValueError) as error:
        raise BadFrame(str(error)) from error
    if start != len(payload):
        raise BadFrame(f"{len(payload)} bytes, {start} announced")
    return arrays
