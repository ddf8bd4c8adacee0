"""What models read of a post, made here for training and serving alike: text, picture digests, plain features."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

# C0 and C1 controls (tabs and line ends are white space), the byte-order mark, and the bidirectional overrides that hide words from
# a reader. Joiners stay: Hindi, Persian and emoji need them. Source: Unicode 16.0, chapters 23.1 and 23.2.
_CONTROLS = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff]")
_LINK = re.compile(r"https?://\S|\bwww\.\S", re.IGNORECASE)
_HASHTAG = re.compile(r"#(\w+)")


def merged_text(caption: str | None, hashtags: Sequence[str] | None) -> str:
    """Caption and the hashtags that it does not hold itself, in one line.

    Args:
        caption: the post's text, or None.
        hashtags: with or without their #, or None.

    Returns:
        text without control characters, white space collapsed; empty where there is neither.
    """
    text = caption or ""
    own = {tag.casefold() for tag in _HASHTAG.findall(text)}
    further = [tag.removeprefix("#") for tag in _present(hashtags) if tag.removeprefix("#").casefold() not in own]
    return " ".join(_CONTROLS.sub("", " ".join([text, *(f"#{tag}" for tag in further)])).split())


def num_hashtags(caption: str | None, hashtags: Sequence[str] | None) -> int:
    """Number of distinct hashtags in the caption and the list together, whatever their case."""
    return len({tag.removeprefix("#").casefold() for tag in [*_HASHTAG.findall(caption or ""), *_present(hashtags)]})


def has_link(caption: str | None) -> bool:
    """Whether the caption holds a web address."""
    return _LINK.search(caption or "") is not None


def image_digests(media: Sequence[Mapping[str, Any]] | None) -> list[str]:
    """SHA-256 of each image in the post's media, in their order, each once; `media` as the ledger holds it, or None."""
    found = [] if media is None else [str(item["digest"]) for item in media if item["kind"] == "image"]
    return list(dict.fromkeys(found))


def _present(hashtags: Sequence[str] | None) -> Sequence[str]:
    return [] if hashtags is None else hashtags
