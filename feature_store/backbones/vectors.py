"""Which vectors of the feature store are what a backbone would make again: the versions of the extractors that embed with it."""

from typing import Literal

from upheld.feature_store.backbones.pretrained import image_origin, text_origin
from upheld.feature_store.contracts.hashing import extractor_version

Lane = Literal["fp32", "bf16"]  # the number format in which an encoder computes


def text_version(backbone: str, prefix: str, max_tokens: int, lane: Lane) -> str:
    """Version of the extractor `text_embedding` that embeds with this backbone, prefix, most tokens, and in this number format."""
    settings = {"backbone": backbone, "prefix": prefix, "max_tokens": max_tokens} | ({} if lane == "fp32" else {"lane": lane})
    return extractor_version(1, settings | {"weights": text_origin(backbone)})


def image_version(backbone: str, size: int, lane: Lane) -> str:
    """Version of the extractor `image_embedding` that embeds with this backbone squares of this side in pixels, in this number format."""
    settings = {"backbone": backbone, "size": size} | ({} if lane == "fp32" else {"lane": lane})
    return extractor_version(1, settings | {"weights": image_origin(backbone)})
