"""What an extractor's results depend on, as one short string; found without importing what computes them."""

import importlib.util
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from upheld.feature_store.contracts import hashing


def version(number: int, settings: Mapping[str, Any], weights: Iterable[Path] = ()) -> str:
    """An extractor's version, such as `1-0f3a9c21b7de`.

    Args:
        number: raised when the extractor's code comes to give other results.
        settings: JSON values that its results depend on.
        weights: files that it computes with.

    Returns:
        the number, and 12 hexadecimal digits of the digest of settings and weights.
    """
    return f"{number}-{hashing.of_json([dict(settings), [hashing.of_file(path) for path in weights]])[:12]}"


def packaged_folder(package: str) -> Path | None:
    """Folder of an installed package, found without importing it; None where it is not installed."""
    spec = importlib.util.find_spec(package)
    folders = list(spec.submodule_search_locations or []) if spec else []
    return Path(folders[0]) if folders else None
