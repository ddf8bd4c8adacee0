"""A picture in CLIP's common space of pictures and texts."""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa

from upheld.feature_store.decoding.contract import Arrays, Refused
from upheld.feature_store.decoding.images import decode_within
from upheld.feature_store.extractors import clip_weights, versions
from upheld.feature_store.extractors.contract import Extractor, Kind

if TYPE_CHECKING:
    from upheld.feature_store.backbones.clip import ClipModel

LONGEST = 512  # more than the models look at (224 to 448), so that their own resizing decides


class ClipImage(Extractor):
    """Embeds pictures as the model's authors prepare them; vectors have length 1."""

    name: ClassVar[str] = "clip_image"
    kind: ClassVar[Kind] = "image"
    columns: ClassVar[pa.Schema] = pa.schema([("embedding", pa.list_(pa.float32()))])

    @cached_property
    def version(self) -> str:
        """Number of the code's version, digests of params and weights."""
        return versions.version(1, clip_weights.settings_and_weights(self.params.clip))

    def unavailable(self) -> str | None:
        """Why there are no weights; None where there are."""
        return clip_weights.lacking(self.params.clip)

    def decode(self, content: bytes) -> Arrays:
        """`pixels`, uint8 (H, W, 3).

        Raises:
            Undecodable: as `image_decoding.opened`.
        """
        return {"pixels": decode_within(content, LONGEST, self.params.ingest.max_media_pixels).picture}

    def extract(self, batch: Sequence[Arrays]) -> list[dict[str, Any] | Refused]:
        """Vectors, in the order given."""
        import torch
        from PIL import Image

        model = self._model
        device = next(model.network.parameters()).device
        pixels = torch.stack([model.preprocess(Image.fromarray(arrays["pixels"])) for arrays in batch]).to(device)
        with torch.inference_mode():
            vectors = model.network.encode_image(pixels, normalize=True).float().cpu().numpy()  # type: ignore[operator]
        return [{"embedding": vector} for vector in vectors]

    @cached_property
    def _model(self) -> "ClipModel":
        from upheld.feature_store.backbones.clip import load_clip

        return load_clip(self.params.clip)
