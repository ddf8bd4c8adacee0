"""CLIP models in open_clip's format: from a folder, a file, or a hub where one is named; never from a pickle."""

import os
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from upheld.common.errors import BadUse
from upheld.common.params.extractors import Clip
from upheld.feature_store.backbones.devices import best_device


class ClipModel(NamedTuple):
    """A network with `encode_image` and `encode_text`, and what makes their inputs: of a PIL image, of a list of texts."""

    network: nn.Module
    preprocess: Any
    tokenizer: Any


def load_clip(settings: Clip) -> ClipModel:
    """Load the weights that `clip.pretrained` names, on the best device here, in float32.

    A folder (open_clip_config.json, *.safetensors) says itself which architecture it holds; a .safetensors file and a tag of
    open_clip's are weights of the architecture `clip.model`; `hf-hub:ID` and tags are fetched, with weights_only where they are no
    safetensors.

    Raises:
        BadUse: they cannot be loaded.
    """
    weights = str(settings.pretrained)
    named = f"local-dir:{weights}" if Path(weights).is_dir() else weights if weights.startswith("hf-hub:") else settings.model
    # Importing the library forbids all tokenizers of the process to use more than one processor, which is taken back here. It hands no
    # trust_remote_code to transformers, which would then ask on standard input; without time to answer the answer is no.
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    import open_clip
    from transformers import dynamic_module_utils

    dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0
    if before is None:
        os.environ.pop("TOKENIZERS_PARALLELISM", None)
    else:
        os.environ["TOKENIZERS_PARALLELISM"] = before
    try:
        network, preprocess = open_clip.create_model_from_pretrained(
            named, pretrained=weights if named == settings.model else None, precision="fp32", device=best_device(), weights_only=True
        )
        return ClipModel(network.eval(), preprocess, open_clip.get_tokenizer(named))
    except Exception as error:  # open_clip, timm, transformers and the hub client share no type
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise BadUse(f"clip.pretrained: cannot load {weights!r} ({reason}); name a folder, .safetensors, a tag or hf-hub:ID") from error
