"""What a picture shows, in a sentence, by a BLIP model that the params name; none comes with a package.

Source: Li, Li, Xiong & Hoi (2022), ICML, "BLIP: bootstrapping language-image pre-training".
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
from PIL import Image

from upheld.common.errors import FailedWork
from upheld.feature_store.contracts import hashing
from upheld.feature_store.contracts.hashing import extractor_version
from upheld.feature_store.decoding.contract import Arrays, Refused
from upheld.feature_store.decoding.images import decode_within
from upheld.feature_store.extractors.contract import Extractor, Kind, packaged_folder

_MAX_SIDE = 768  # pixels; BLIP itself shrinks to 384


class Caption(Extractor):
    """A caption in English, by greedy decoding, so that a picture gets the same one every time."""

    name: ClassVar[str] = "caption"
    kind: ClassVar[Kind] = "image"
    columns: ClassVar[pa.Schema] = pa.schema([("caption", pa.string())])
    _loaded: Any = None

    @cached_property
    def version(self) -> str:
        """Number of the code's version, digest of the folder or the hub id with its commit, and of the longest caption."""
        settings = self.params.caption
        folder = Path(settings.model)
        origin = hashing.of_folder(folder) if settings.model and folder.is_dir() else f"{settings.model}@{settings.revision}"
        return extractor_version(1, {"model": origin, "max_tokens": settings.max_tokens})

    def unavailable(self) -> str | None:
        """Says so until params name a model that is there."""
        settings = self.params.caption
        folder = Path(settings.model)
        if not settings.model:
            return "no weights: set caption.model to a folder or a hub id of a BLIP captioning model"
        if packaged_folder("transformers") is None:
            return "package transformers is not installed; run `make setup`"
        if folder.is_dir():
            lacking = not any(folder.glob("*.safetensors")) or not (folder / "config.json").is_file()
            return f"{folder}: expected config.json and *.safetensors of a BLIP captioning model" if lacking else None
        return None if settings.revision else f"{settings.model} is no folder; for a hub id, set caption.revision to the commit to use"

    def decode(self, content: bytes) -> Arrays:
        """`image`, uint8 (H, W, 3). Raises as `decode_within`."""
        return {"image": decode_within(content, _MAX_SIDE, self.params.ingest.max_media_pixels).picture}

    def extract(self, batch: Sequence[Arrays]) -> list[dict[str, Any] | Refused]:
        """Caption all pictures in one pass.

        Raises:
            FailedWork: the model cannot be loaded.
        """
        import torch

        processor, model = self._loaded = self._loaded or self._load()
        pixels = processor(images=[Image.fromarray(arrays["image"]) for arrays in batch], return_tensors="pt").pixel_values.to(model.device)
        with torch.inference_mode():
            tokens = model.generate(pixel_values=pixels, max_new_tokens=self.params.caption.max_tokens, num_beams=1, do_sample=False)
        return [{"caption": text.strip()} for text in processor.batch_decode(tokens, skip_special_tokens=True)]

    def _load(self) -> Any:
        import torch  # seconds
        from transformers import BlipForConditionalGeneration, BlipProcessor

        settings = self.params.caption
        source: dict[str, Any] = {"revision": settings.revision} if settings.revision else {}
        try:
            processor = BlipProcessor.from_pretrained(settings.model, trust_remote_code=False, **source)
            model = BlipForConditionalGeneration.from_pretrained(settings.model, trust_remote_code=False, use_safetensors=True, **source)
        except (OSError, ValueError) as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise FailedWork(
                f"caption.model {settings.model}: cannot be loaded ({first}); name a folder or hub id with BLIP weights"
            ) from error
        return processor, model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
