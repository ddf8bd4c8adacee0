"""Features of contents that are no part of the store, such as those of a post to be scored: the same extractors, run when asked.

Nothing is imported, and no decoding process started, before a content of an extractor's kind is there.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from upheld.common.errors import BadUse, FailedWork
from upheld.common.params.params import Params
from upheld.feature_store.decoding.contract import Arrays, Refused
from upheld.feature_store.extractors import catalogue
from upheld.feature_store.extractors.contract import Extractor
from upheld.feature_store.sandbox.pool import DecodePool


class Tools:
    """Extractors, made when first needed and kept, for as many contents as come.

    Args:
        params: the extractors' sections, and the bounds of decoding.
        versions: extractor -> version that the model learned from; no other is used.
    """

    def __init__(self, params: Params, versions: Mapping[str, str]) -> None:
        self.params = params
        self.versions = versions
        self.notes: list[str] = []  # what a model will miss, said once
        self._made: dict[str, Extractor | None] = {}

    def get(self, name: str) -> Extractor | None:
        """The extractor of that name; None where the model did not learn from it, or it cannot run here."""
        if name not in self._made:
            self._made[name] = self._make(name) if name in self.versions else None
        return self._made[name]

    def _make(self, name: str) -> Extractor | None:
        extractor = catalogue.make(name, self.params)
        if (reason := extractor.unavailable()) is not None:
            self.notes.append(f"{name}: missing, though the model learned from it: {reason}")
            return None
        if extractor.version != self.versions[name]:
            self.notes.append(f"{name}: version {extractor.version} here, the model learned from {self.versions[name]}")
        return extractor


class FeaturesAtHand:
    """What `PinnedFeatures` is for contents of the store.

    Args:
        tools: the extractors.
        fetch: gives contents by digest; key frames found here need not be among them.
    """

    def __init__(self, tools: Tools, fetch: Callable[[Sequence[str]], Mapping[str, bytes]]) -> None:
        self.refused: dict[tuple[str, str], Refused] = {}  # (extractor, digest) -> why there are no features
        self.frames: dict[str, bytes] = {}  # digest -> JPEG
        self._tools = tools
        self._fetch = fetch
        self._rows: dict[str, dict[str, dict[str, Any]]] = {}

    def rows(self, name: str, digests: Iterable[str], columns: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Digest -> row of each content, null features where it was refused; empty where the extractor does not run."""
        wanted = sorted(set(digests))
        extractor = self._tools.get(name) if wanted else None
        if extractor is None:
            return {}
        known = self._rows.setdefault(name, {})
        new = [digest for digest in wanted if digest not in known]
        for digest, arrays in zip(new, self._decoded(extractor, new), strict=True):
            known[digest] = self._row(extractor, digest, arrays)
        return {digest: {column: known[digest].get(column) for column in columns} for digest in wanted}

    def _decoded(self, extractor: Extractor, digests: Sequence[str]) -> Iterator[Arrays | Refused]:
        """Foreign bytes are decoded in a process of their own; our own text needs none."""
        contents = (self.frames[digest] if digest in self.frames else self._fetch([digest])[digest] for digest in digests)
        if extractor.kind == "text" or not digests:
            yield from (extractor.decode(content) for content in contents)
            return
        timeout_s = self._tools.params.features.decode_timeout_s[extractor.kind]
        with DecodePool(catalogue.EXTRACTORS[extractor.name], self._tools.params, timeout_s, 1) as pool:
            yield from pool.decode(contents, 1)

    def _row(self, extractor: Extractor, digest: str, arrays: Arrays | Refused) -> dict[str, Any]:
        try:
            found = arrays if isinstance(arrays, Refused) else extractor.extract([arrays])[0]
        except (BadUse, FailedWork):
            raise
        except Exception as error:  # of arrays that no decoder of ours would make, for instance
            found = Refused("extract_failed", f"{type(error).__name__}: {error}"[:500])
        if isinstance(found, Refused):
            self.refused[extractor.name, digest] = found
            return {}
        if extractor.name == "keyframes":
            self.frames |= {frame["digest"]: frame["jpeg"] for frame in found["frames"]}
        return found
