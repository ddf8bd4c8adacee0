"""Random-looking numbers that belong to an id: the same key and id always give the same number, on every machine."""

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


def uniform(key: str, ids: Iterable[str]) -> NDArray[np.float64]:
    """Draw one number per id, independent of the order and the company in which ids come.

    Args:
        key: names the draw; other keys give independent numbers.
        ids: N strings.

    Returns:
        float64 (N,) in [0, 1), multiples of 2**-53.

    Source: BLAKE2b in its keyed mode (RFC 7693); the top 53 bits of 64 fill a float64 exactly.
    """
    secret = hashlib.blake2b(key.encode(), digest_size=32).digest()
    words = [int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8, key=secret).digest()) >> 11 for name in ids]
    return np.array(words, dtype=np.float64) * 2.0**-53
