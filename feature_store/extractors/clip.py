"""Pictures and texts in CLIP's common space, where the product of two vectors is their cosine.

Models come in open_clip's format: from a folder, a file, or a hub where one is named; never from a pickle.
"""

import importlib.util
import os
from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import pyarrow as pa

from upheld.common.errors import BadUse
from upheld.common.params.extractors import Clip
from upheld.feature_store.backbones.pretrained import pinned
from upheld.feature_store.contracts import hashing
from upheld.feature_store.contracts.hashing import extractor_version
from upheld.feature_store.decoding.contract import Arrays, Refused
from upheld.feature_store.decoding.images import decode_within
from upheld.feature_store.extractors.contract import Extractor, Kind

if TYPE_CHECKING:
    import torch
    from torch import nn

HUB = "hf-hub:"  # before a model's id on the hub, as open_clip and timm write it
LONGEST = 512  # more than the models look at (224 to 448), so that their own resizing decides


class _ClipExtractor(Extractor):
    """What both have in common: the column, and where the weights come from."""

    columns: ClassVar[pa.Schema] = pa.schema([("embedding", pa.list_(pa.float32()))])

    @cached_property
    def version(self) -> str:
        """Number of the code's version, digests of params and weights."""
        return extractor_version(1, settings_and_weights(self.params.clip))

    def unavailable(self) -> str | None:
        """Why there are no weights; None where there are."""
        return missing_weights(self.params.clip)

    @cached_property
    def _model(self) -> "ClipModel":
        return load_clip(self.params.clip)

    def extract(self, batch: Sequence[Arrays]) -> list[dict[str, Any] | Refused]:
        """Vectors, in the order given."""
        import torch

        device = next(self._model.network.parameters()).device
        with torch.inference_mode():
            vectors = self._encode(self._model, batch, device).float().cpu().numpy()
        return [{"embedding": vector} for vector in vectors]

    @abstractmethod
    def _encode(self, model: "ClipModel", batch: Sequence[Arrays], device: "torch.device") -> "torch.Tensor":
        """Vectors of length 1, (N, D)."""


class ClipImage(_ClipExtractor):
    """Embeds pictures as the model's authors prepare them; vectors have length 1."""

    name: ClassVar[str] = "clip_image"
    kind: ClassVar[Kind] = "image"

    def decode(self, content: bytes) -> Arrays:
        """`pixels`, uint8 (H, W, 3). Raises as `images.opened`."""
        return {"pixels": decode_within(content, LONGEST, self.params.ingest.max_media_pixels).picture}

    def _encode(self, model: "ClipModel", batch: Sequence[Arrays], device: "torch.device") -> "torch.Tensor":
        import torch
        from PIL import Image

        pixels = torch.stack([model.preprocess(Image.fromarray(arrays["pixels"])) for arrays in batch]).to(device)
        vectors: torch.Tensor = model.network.encode_image(pixels, normalize=True)  # type: ignore[operator]
        return vectors


class ClipText(_ClipExtractor):
    """Embeds texts; vectors have length 1, their product with a picture's is the cosine."""

    name: ClassVar[str] = "clip_text"
    kind: ClassVar[Kind] = "text"

    def _encode(self, model: "ClipModel", batch: Sequence[Arrays], device: "torch.device") -> "torch.Tensor":
        tokens = model.tokenizer([arrays["bytes"].tobytes().decode() for arrays in batch]).to(device)  # which cuts what is too long
        vectors: torch.Tensor = model.network.encode_text(tokens, normalize=True)  # type: ignore[operator]
        return vectors


def missing_weights(settings: Clip) -> str | None:
    """Why CLIP cannot run here, in words that say what to do; None where it can."""
    if settings.pretrained is None:
        return "no weights: set clip.pretrained to a folder, a .safetensors file or a tag of open_clip's"
    if importlib.util.find_spec("open_clip") is None:
        return "package open_clip is not installed; run `make setup`"
    path = Path(settings.pretrained)
    if path.is_dir() and not ((path / "open_clip_config.json").is_file() and any(path.glob("*.safetensors"))):
        return f"{path}: expected open_clip_config.json and *.safetensors"
    if path.is_file() and path.suffix != ".safetensors":
        return f"{path}: expected a .safetensors file; other formats can run code when they are loaded"
    return None


def settings_and_weights(settings: Clip) -> dict[str, str]:
    """What CLIP's results depend on: architecture, and digest of the weights or the name that they come by.

    Raises:
        BadUse: as `pinned`, of `hf-hub:ID`.
    """
    path = Path(str(settings.pretrained))
    if str(settings.pretrained).startswith(HUB):
        pinned(str(settings.pretrained).removeprefix(HUB))
    weights = hashing.of_folder(path) if path.is_dir() else hashing.of_file(path) if path.is_file() else str(settings.pretrained)
    return {"model": settings.model, "weights": weights}


class ClipModel(NamedTuple):
    """A network with `encode_image` and `encode_text`, and what makes their inputs: of a PIL image, of a list of texts."""

    network: "nn.Module"
    preprocess: Any
    tokenizer: Any


def load_clip(settings: Clip) -> ClipModel:
    """Load the weights that `clip.pretrained` names, on the best device here, in float32.

    A folder (open_clip_config.json, *.safetensors) says itself which architecture it holds; a .safetensors file and a tag of
    open_clip's are weights of the architecture `clip.model`; `hf-hub:ID@COMMIT` is fetched as a folder; tags are fetched, with weights_only
    where they are no safetensors.

    Raises:
        BadUse: they cannot be loaded.
    """
    weights = str(settings.pretrained)
    hub_id, commit = pinned(weights.removeprefix(HUB)) if weights.startswith(HUB) else (None, None)
    # Importing the library forbids all tokenizers of the process to use more than one processor, which is taken back here. It hands no
    # trust_remote_code to transformers, which would then ask on standard input; without time to answer the answer is no.
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    import open_clip
    from transformers import dynamic_module_utils

    from upheld.feature_store.backbones.devices import best_device

    dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0
    if before is None:
        os.environ.pop("TOKENIZERS_PARALLELISM", None)
    else:
        os.environ["TOKENIZERS_PARALLELISM"] = before
    try:
        if hub_id:
            from huggingface_hub import snapshot_download

            weights = snapshot_download(hub_id, revision=commit, allow_patterns=["*.json", "*.safetensors", "*.txt"])
        named = f"local-dir:{weights}" if Path(weights).is_dir() else settings.model
        network, preprocess = open_clip.create_model_from_pretrained(
            named, pretrained=weights if named == settings.model else None, precision="fp32", device=best_device(), weights_only=True
        )
        return ClipModel(network.eval(), preprocess, open_clip.get_tokenizer(named))
    except Exception as error:  # open_clip, timm, transformers and the hub client share no type
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise BadUse(
            f"clip.pretrained: cannot load {weights!r} ({reason}); name a folder, .safetensors, a tag or hf-hub:ID@COMMIT"
        ) from error
