"""Foundations of the sample world: its files and their mark, tables written to the byte, and a random stream for each part."""

import hashlib
import random
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from upheld.common import files
from upheld.common.errors import BadUse
from upheld.feature_store.contracts.tables import SYNTHETIC_MARK

Item = TypeVar("Item")


def write_mark(folder: Path, seed: int, as_of: datetime) -> None:
    """Say at a delivery's root that all of it is synthetic, from which seed, and at what moment (UTC) it ends."""
    content = {"synthetic": True, "made_by": "upheld sample-data", "seed": seed, "as_of": f"{as_of:%Y-%m-%dT%H:%M:%SZ}"}
    files.write_json(folder / SYNTHETIC_MARK, content)


def write_table(path: Path, frame: pd.DataFrame, schema: pa.Schema) -> None:
    """Write a Parquet file with exactly the schema's columns; the same rows give the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = frame[schema.names].astype(object)
    rows = values.where(values.notna(), None).to_dict("records")
    pq.write_table(pa.Table.from_pylist(rows, schema), path, compression="zstd")


def refuse_others_folder(out: Path) -> None:
    """Keep a folder that we did not make from being replaced.

    Raises:
        BadUse: `out` is a file, or a folder with content and without the mark of a sample world.
    """
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not (out / SYNTHETIC_MARK).is_file()):
        raise BadUse(f"--out {out}: exists and was not made by sample-data (no {SYNTHETIC_MARK} in it); name a new or an empty folder")


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
