"""What an extractor is: bytes of one content in, one row of features out, or the reason why there is none; and what its version says."""

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa

from upheld.common.params.params import Params
from upheld.feature_store.decoding.contract import Arrays, Refused

Kind = Literal["text", "image", "video", "audio"]


class Extractor(ABC):
    """Computes the features of one kind of content. Making one loads nothing: weights are loaded by the first `extract`.

    Args:
        params: the extractor reads the section that bears its name, where it has one, and `features`.

    Attributes:
        name: its table in the store, and what `--only` takes.
        kind: what it reads: `text` (a post's caption and hashtags, merged, as UTF-8), `image` (media images and the keyframes of
            videos), `video`, or `audio` (audio media, and videos, for the sound in them).
        columns: name and type of each feature.
    """

    name: ClassVar[str]
    kind: ClassVar[Kind]
    columns: ClassVar[pa.Schema]

    def __init__(self, params: Params) -> None:
        self.params = params

    @property
    @abstractmethod
    def version(self) -> str:
        """What its results depend on: number of the code's version, digests of the params it reads and of its weights."""

    def unavailable(self) -> str | None:
        """Why it cannot run here (no weights, not switched on), in words that say what to do; None where it can."""
        return None

    def decode(self, content: bytes) -> Arrays:
        """Turn foreign bytes into arrays; runs in a worker process that holds no weights and may be killed at any time.

        Raises:
            Undecodable: the bytes cannot be used.
        """
        return {"bytes": np.frombuffer(content, np.uint8)}

    def extract(self, batch: Sequence[Arrays]) -> list[dict[str, Any] | Refused]:
        """Features of several contents; by `extract_one`, where an extractor gains nothing from having them together.

        Args:
            batch: what `decode` gave for each.

        Returns:
            for each, in their order, a value for every name in `columns`, or why there is none.
        """
        return [self.extract_one(arrays) for arrays in batch]

    def extract_one(self, arrays: Arrays) -> dict[str, Any] | Refused:
        """As `extract`, of one content."""
        raise NotImplementedError


def packaged_folder(package: str) -> Path | None:
    """Folder of an installed package, found without importing it; None where it is not installed."""
    spec = importlib.util.find_spec(package)
    folders = list(spec.submodule_search_locations or []) if spec else []
    return Path(folders[0]) if folders else None
