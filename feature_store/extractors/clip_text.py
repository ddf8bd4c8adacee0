"""A text in CLIP's common space of pictures and texts."""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa

from upheld.feature_store.decoding.contract import Arrays, Refused
from upheld.feature_store.extractors import clip_weights, versions
from upheld.feature_store.extractors.contract import Extractor, Kind

if TYPE_CHECKING:
    from upheld.feature_store.backbones.clip import ClipModel


class ClipText(Extractor):
    """Embeds texts; vectors have length 1, their product with a picture's is the cosine."""

    name: ClassVar[str] = "clip_text"
    kind: ClassVar[Kind] = "text"
    columns: ClassVar[pa.Schema] = pa.schema([("embedding", pa.list_(pa.float32()))])

    @cached_property
    def version(self) -> str:
        """Number of the code's version, digests of params and weights."""
        return versions.version(1, clip_weights.settings_and_weights(self.params.clip))

    def unavailable(self) -> str | None:
        """Why there are no weights; None where there are."""
        return clip_weights.lacking(self.params.clip)

    def extract(self, batch: Sequence[Arrays]) -> list[dict[str, Any] | Refused]:
        """Vectors, in the order given; the model's tokenizer cuts what is too long."""
        import torch

        model = self._model
        device = next(model.network.parameters()).device
        tokens = model.tokenizer([arrays["bytes"].tobytes().decode() for arrays in batch]).to(device)
        with torch.inference_mode():
            vectors = model.network.encode_text(tokens, normalize=True).float().cpu().numpy()  # type: ignore[operator]
        return [{"embedding": vector} for vector in vectors]

    @cached_property
    def _model(self) -> "ClipModel":
        from upheld.feature_store.backbones.clip import load_clip

        return load_clip(self.params.clip)
