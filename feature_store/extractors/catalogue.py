"""Which extractors there are, in the order in which they run: keyframes come before what reads images, for they make some."""

import importlib
from typing import Any, Final

from feature_store.errors import BadUse
from feature_store.extractors.contract import Extractor
from feature_store.params import Params

# name -> module:class; modules are imported only when asked for.
EXTRACTORS: Final[dict[str, str]] = {}


def make(name: str, params: Params) -> Extractor:
    """The extractor of that name; loads no weights.

    Raises:
        BadUse: there is none.
    """
    if name not in EXTRACTORS:
        raise BadUse(f"no extractor {name!r}; there are {', '.join(EXTRACTORS)}")
    extractor: Extractor = load_class(EXTRACTORS[name])(params)
    return extractor


def load_class(path: str) -> Any:
    """The class that `module:Class` names."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)
