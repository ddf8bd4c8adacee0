"""Which extractors there are, in the order in which they run: keyframes come before what reads images, for they make some."""

import importlib
from typing import Final

from feature_store.errors import BadUse
from feature_store.extractors.contract import Extractor
from feature_store.params import Params

# name -> module:class below this package. Modules are imported only when asked for.
EXTRACTORS: Final[dict[str, str]] = {}


def make(name: str, params: Params) -> Extractor:
    """The extractor of that name; loads no weights.

    Raises:
        BadUse: there is none.
    """
    if name not in EXTRACTORS:
        raise BadUse(f"no extractor {name!r}; there are {', '.join(EXTRACTORS)}")
    module, _, kind = EXTRACTORS[name].partition(":")
    extractor: Extractor = getattr(importlib.import_module(module), kind)(params)
    return extractor
