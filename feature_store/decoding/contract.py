"""What a decoder is to those who run it in a worker: it is named `module:Class`, and gives arrays, or the reason why there are none."""

import importlib
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]  # what a decoder hands over: named arrays of numbers, never objects


@dataclass(frozen=True)
class Refused:
    """Why a content has no features: a code such as `image_truncated`, and what was found.

    `passing` means that another run may fare better (a budget spent, a service away): the content is counted, but stays missing.
    """

    reason: str
    detail: str
    passing: bool = False


class Undecodable(Exception):
    """Raised by a decoder on bytes that it cannot use.

    Args:
        reason: a code such as `image_truncated`.
        detail: what was found and what was expected, in one line.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.refused = Refused(reason, detail)


def load_class(path: str) -> Any:
    """The class that `module:Class` names."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)
