"""Where pretrained weights come from: files inside pinned packages, converted once into the user's cache folder."""

import importlib.util
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file

from feature_store import digest
from feature_store.atomic import replacing
from feature_store.errors import FailedWork


def packaged_file(package: str, relative: str) -> Path:
    """Path of a file inside an installed package, found without importing the package.

    Args:
        package: import name of the package.
        relative: path of the file below the package's folder.

    Raises:
        FailedWork: the package or the file is missing; the message names the command that installs it.
    """
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (path := Path(folder) / relative).is_file():
            return path
    raise FailedWork(f"pretrained weights: package {package!r} with file {relative!r} is not installed; run `make setup`")


def cache_folder() -> Path:
    """Folder for converted weights: $XDG_CACHE_HOME/upheld/weights, else ~/.cache/upheld/weights."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "upheld" / "weights"


def converted(name: str, source: Path, convert: Callable[[Path], Mapping[str, torch.Tensor]]) -> Path:
    """Path of `source`'s weights as safetensors, converting them the first time.

    Args:
        name: human-readable prefix of the cached file.
        source: packaged weights; its digest names the cached file, so that another release never meets an old cache.
        convert: reads the source and gives its tensors by name.

    Returns:
        a safetensors file in `cache_folder()`; written whole or not at all, so two processes may race for it.
    """
    path = cache_folder() / f"{name}-{digest.of_file(source)[:16]}.safetensors"
    if not path.exists():
        with replacing(path) as partial:
            save_file(dict(convert(source)), partial)
    return path
