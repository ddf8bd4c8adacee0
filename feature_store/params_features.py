"""Sections of params.yaml that feature extractors read."""

from pydantic import Field

from feature_store.params_section import Section, Share


class Language(Section):
    """Language identification: below `min_prob` a language is `und`."""

    min_prob: Share


class TextEmbedding(Section):
    """The encoder (as `text.backbone`), what it expects before a text, tokens a text, texts in one forward pass."""

    backbone: str = Field(min_length=1)
    prefix: str
    max_tokens: int = Field(ge=8)
    batch_size: int = Field(ge=1)


class ImageEmbedding(Section):
    """The network (as `image.backbone`), side of its square input in pixels."""

    backbone: str = Field(min_length=1)
    size: int = Field(ge=32)


class Clip(Section):
    """An open_clip model: its architecture, and its weights (see `backbones.clip.load_clip`); none where `pretrained` is null."""

    model: str = Field(min_length=1)
    pretrained: str | None
