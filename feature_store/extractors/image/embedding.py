"""What a picture shows, as a vector: the image backbone's features."""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa

from upheld.common.errors import BadUse
from upheld.feature_store.backbones.vectors import image_version
from upheld.feature_store.decoding.contract import Arrays, Refused
from upheld.feature_store.decoding.images import decode_square
from upheld.feature_store.extractors.contract import Extractor, Kind

if TYPE_CHECKING:
    import torch

    from upheld.feature_store.backbones.image import Backbone

WIDTH = 1280  # of EfficientNet-lite0; the table's column is as wide


class ImageEmbedding(Extractor):
    """Embeds with a network named in `image_embedding.backbone`, in the number format of `image_embedding.lane`."""

    name: ClassVar[str] = "image_embedding"
    kind: ClassVar[Kind] = "image"
    columns: ClassVar[pa.Schema] = pa.schema([("embedding", pa.list_(pa.float32(), WIDTH))])

    @cached_property
    def version(self) -> str:
        """Number of the code's version, digests of params and weights."""
        settings = self.params.image_embedding
        return image_version(settings.backbone, settings.size, settings.lane)

    def decode(self, content: bytes) -> Arrays:
        """`pixels`, uint8 (size, size, 3). Raises as `images.opened`."""
        return {"pixels": decode_square(content, self.params.image_embedding.size, self.params.ingest.max_media_pixels)}

    def extract(self, batch: Sequence[Arrays]) -> list[dict[str, Any] | Refused]:
        """Vectors, in the order given."""
        import torch

        from upheld.feature_store.backbones.image import to_tensor

        backbone = self._backbone
        device = next(backbone.network.parameters()).device
        pictures = torch.from_numpy(np.stack([arrays["pixels"] for arrays in batch]))
        with torch.inference_mode():
            pixels = to_tensor(pictures.to(device), backbone.mean, backbone.std).to(self._format)
            vectors = backbone.network(pixels).float().cpu().numpy()
        return [{"embedding": vector} for vector in vectors]

    @property
    def _format(self) -> "torch.dtype":
        import torch

        return torch.bfloat16 if self.params.image_embedding.lane == "bf16" else torch.float32

    @cached_property
    def _backbone(self) -> "Backbone":
        import torch

        from upheld.feature_store.backbones.devices import best_device
        from upheld.feature_store.backbones.folding import folded
        from upheld.feature_store.backbones.image import load_image_backbone

        name = self.params.image_embedding.backbone
        backbone = load_image_backbone(name)
        if backbone.num_features != WIDTH:
            found = backbone.num_features
            raise BadUse(f"image_embedding.backbone: {name!r} makes vectors of {found}, the table holds {WIDTH}; name another")
        network = backbone.network.eval().to(memory_format=torch.channels_last)
        return backbone._replace(network=folded(network, self.params.image_embedding.size).to(best_device(), self._format))
