"""Random streams of the sample world: each part draws from its own, named by what it makes."""

import hashlib
import random
from typing import TypeVar

Item = TypeVar("Item")


def stream(seed: int, *names: object) -> random.Random:
    """A random stream that depends on the seed and its own name alone, so that no part moves when another changes."""
    return random.Random(_hex(seed, names))  # noqa: S311 (a world to be repeated, not a secret)


def identifier(prefix: str, seed: int, *names: object) -> str:
    """An id of 12 hexadecimal digits that tells nothing of what it names: `prefix_` and a digest of seed and names."""
    return f"{prefix}_{_hex(seed, names)[:12]}"


def weighted(rng: random.Random, weights: dict[Item, float]) -> Item:
    """Draw one key with probability proportional to its weight (weights are not negative, their sum is positive)."""
    return rng.choices(list(weights), list(weights.values()))[0]


def _hex(seed: int, names: tuple[object, ...]) -> str:
    return hashlib.sha256("\0".join(map(str, (seed, *names))).encode()).hexdigest()
