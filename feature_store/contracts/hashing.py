"""Content digests: SHA-256, hexadecimal."""

import hashlib
import importlib.util
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray


def of_bytes(content: bytes) -> str:
    """Digest of a byte string: 64 hexadecimal characters."""
    return hashlib.sha256(content).hexdigest()


def of_file(path: Path) -> str:
    """Digest of a file's bytes, read in blocks."""
    with path.open("rb") as file:
        return of_stream(file)


def of_stream(stream: BinaryIO) -> str:
    """Digest of what is left to read in a binary stream, read in blocks."""
    state = hashlib.sha256()
    while block := stream.read(1 << 20):
        state.update(block)
    return state.hexdigest()


def of_json(content: Any) -> str:
    """Digest of a JSON value in canonical form (sorted keys, no spaces)."""
    return of_bytes(json.dumps(content, sort_keys=True, separators=(",", ":"), default=str).encode())


def of_folder(folder: Path) -> str:
    """Digest of a folder: the relative names and digests of its files, in order of name."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return of_json([[path.relative_to(folder).as_posix(), of_file(path)] for path in files])


def of_code(names: Iterable[str]) -> str:
    """Digest of source code, for keys of what must be made anew when the code that makes it has changed.

    Args:
        names: dotted names of modules and packages of ours; of a package every file counts, at whatever depth.

    Returns:
        a digest of the names and contents of the source files that this process imports by these names.

    Raises:
        ModuleNotFoundError: there is no such module.
    """
    found: dict[str, str] = {}
    for name in names:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(f"{name}: no such module or package with an __init__.py; its code was to be digested", name=name)
        path = Path(spec.origin)
        for file in path.parent.rglob("*.py") if spec.submodule_search_locations else [path]:
            found[f"{name}/{file.relative_to(path.parent).as_posix()}"] = of_file(file)
    return of_json(found)


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


def extractor_version(number: int, settings: Mapping[str, Any], weights: Iterable[Path] = ()) -> str:
    """An extractor's version, such as `1-0f3a9c21b7de`.

    Args:
        number: raised when the extractor's code comes to give other results.
        settings: JSON values that its results depend on.
        weights: files that it computes with.

    Returns:
        the number, and 12 hexadecimal digits of the digest of settings and weights.
    """
    return f"{number}-{of_json([dict(settings), [of_file(path) for path in weights]])[:12]}"
