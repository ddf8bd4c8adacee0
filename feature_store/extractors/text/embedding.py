"""What a text is about, as a vector: the text backbone's mean over tokens, of length 1."""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa

from upheld.common.errors import BadUse
from upheld.feature_store.backbones.vectors import text_version
from upheld.feature_store.decoding.contract import Arrays, Refused
from upheld.feature_store.extractors.contract import Extractor, Kind

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import nn

WIDTH = 384  # of multilingual-e5-small; the table's column is as wide


class TextEmbedding(Extractor):
    """Embeds with an encoder named in `text_embedding.backbone`, in the number format of `text_embedding.lane`: in
    float32 a vector does not depend on what shares its batch."""

    name: ClassVar[str] = "text_embedding"
    kind: ClassVar[Kind] = "text"
    columns: ClassVar[pa.Schema] = pa.schema([("embedding", pa.list_(pa.float32(), WIDTH))])

    @cached_property
    def version(self) -> str:
        """Number of the code's version, digests of params and weights."""
        settings = self.params.text_embedding
        return text_version(settings.backbone, settings.prefix, settings.max_tokens, settings.lane)

    def extract(self, batch: Sequence[Arrays]) -> list[dict[str, Any] | Refused]:
        """Vectors; texts of like length go through the network together, results keep the given order."""
        import numpy as np
        import torch

        from upheld.feature_store.backbones.text import mean_over_tokens, padded

        encoder, tokenizer = self._model
        device = next(encoder.parameters()).device
        settings = self.params.text_embedding
        texts = [settings.prefix + arrays["bytes"].tobytes().decode() for arrays in batch]
        token_ids = [encoding.ids for encoding in tokenizer.encode_batch_fast(texts)]
        order = sorted(range(len(texts)), key=lambda row: len(token_ids[row]))
        vectors = np.zeros((len(texts), WIDTH), np.float32)
        with torch.inference_mode():
            for start in range(0, len(order), settings.batch_size):
                rows = order[start : start + settings.batch_size]
                inputs = {name: tensor.to(device) for name, tensor in padded(encoder, [token_ids[row] for row in rows]).items()}
                mean_NH = mean_over_tokens(encoder(**inputs).last_hidden_state, inputs["attention_mask"])
                vectors[rows] = torch.nn.functional.normalize(mean_NH).cpu().numpy()
        return [{"embedding": vector} for vector in vectors]

    @cached_property
    def _model(self) -> "tuple[nn.Module, Tokenizer]":
        from upheld.feature_store.backbones.devices import best_device
        from upheld.feature_store.backbones.text import in_bfloat16, load_text_backbone

        settings = self.params.text_embedding
        encoder, tokenizer, _ = load_text_backbone(settings.backbone)
        width = int(encoder.config.hidden_size)  # type: ignore[union-attr, arg-type]
        if width != WIDTH:
            raise BadUse(f"text_embedding.backbone: {settings.backbone!r} makes vectors of {width}, the table holds {WIDTH}; name another")
        tokenizer.enable_truncation(settings.max_tokens)
        encoder = encoder.to(best_device()).eval()
        return in_bfloat16(encoder) if settings.lane == "bf16" else encoder, tokenizer
