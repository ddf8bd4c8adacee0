"""What models read of a post, made here for training and serving alike: text, picture digests, plain features."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from feature_store.text_normalisation import normalised

_LINK = re.compile(r"https?://\S|\bwww\.\S", re.IGNORECASE)
# Letters, digits and the underscore; the vowel signs and marks of scripts that write them apart, and joiners, which \w leaves out.
# Source: UTR 31 section 6, hashtag identifiers, over the blocks of Indic, Semitic and South-East Asian scripts without their punctuation.
_PUNCTUATION = "\u05be\u05c0\u05c3\u05f3\u05f4\u060c\u061b\u061d-\u061f\u066a-\u066d\u06d4\u0964\u0965\u0970\u0e2f\u0e3f\u0e4f\u0e5a\u0e5b"
_HASHTAG = re.compile(f"#((?:\\w|(?![{_PUNCTUATION}\u104a-\u104f\u17d4-\u17da])[\u0300-\u036f\u0590-\u109f\u1780-\u17ff\u200c\u200d])+)")


def merged_text(caption: str | None, hashtags: Sequence[str] | None) -> str:
    """Caption and the hashtags that it does not hold itself, in one line.

    Args:
        caption: the post's text, or None.
        hashtags: with or without their #, or None.

    Returns:
        text as `text_normalisation.normalised` spells it; empty where there is neither.
    """
    text = normalised(caption or "")
    own = {tag.casefold() for tag in _HASHTAG.findall(text)}
    return " ".join([*([text] if text else []), *(f"#{tag}" for tag in _bare(hashtags) if tag.casefold() not in own)])


def num_hashtags(caption: str | None, hashtags: Sequence[str] | None) -> int:
    """Number of distinct hashtags in the caption and the list together, whatever their case."""
    return len({tag.casefold() for tag in [*_HASHTAG.findall(normalised(caption or "")), *_bare(hashtags)]})


def has_link(caption: str | None) -> bool:
    """Whether the caption holds a web address."""
    return _LINK.search(caption or "") is not None


def image_digests(media: Sequence[Mapping[str, Any]] | None) -> list[str]:
    """SHA-256 of each image in the post's media, in their order, each once; `media` as the ledger holds it, or None."""
    found = [] if media is None else [str(item["digest"]) for item in media if item["kind"] == "image"]
    return list(dict.fromkeys(found))


def _bare(hashtags: Sequence[str] | None) -> list[str]:
    """Hashtags as they would be spelt in a caption, without their #; what is empty then is none."""
    bare = [] if hashtags is None else [normalised(tag).removeprefix("#") for tag in hashtags]
    return [tag for tag in bare if tag]
