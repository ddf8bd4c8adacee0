"""What models read of a post, made here for training and serving alike: text, media digests, plain features."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from upheld.feature_store.posts.text_normalisation import normalised

MEDIA_OF: Final = {"image": ("image",), "video": ("video",), "audio": ("audio", "video")}  # what an extractor reads -> media that have it
_LINK = re.compile(r"https?://\S|\bwww\.\S", re.IGNORECASE)
# Letters, digits and the underscore; the vowel signs and marks of scripts that write them apart, and joiners, which \w leaves out.
# Source: UTR 31 section 6, hashtag identifiers, over the blocks of Indic, Semitic and South-East Asian scripts without their punctuation.
_PUNCTUATION = "\u05be\u05c0\u05c3\u05f3\u05f4\u060c\u061b\u061d-\u061f\u066a-\u066d\u06d4\u0964\u0965\u0970\u0e2f\u0e3f\u0e4f\u0e5a\u0e5b"
_HASHTAG = re.compile(f"#((?:\\w|(?![{_PUNCTUATION}\u104a-\u104f\u17d4-\u17da])[\u0300-\u036f\u0590-\u109f\u1780-\u17ff\u200c\u200d])+)")


def merged_text(caption: str | None, hashtags: Sequence[str] | None) -> str:
    """Caption and the hashtags that it does not hold itself, in one line, as `text_normalisation.normalised` spells it; empty where
    there is neither. Hashtags come with or without their #.
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


def whole_text(caption: str, spoken: Sequence[str], written: Sequence[str], max_part_chars: int) -> str:
    """What the text classifier reads: caption, then what is said in the post's sounds, then what is written in its pictures.

    Args:
        caption: from `merged_text`.
        spoken: transcripts, one a sound; may be empty strings.
        written: words found in pictures and key frames; the same words of several frames count once.
        max_part_chars: of each of the three, where there is more than the caption.

    Returns:
        the parts that there are, told apart by ` | speech: ` and ` | picture: `; the caption as it is where nothing is said or written.
    """
    further = {"speech": spoken, "picture": written}
    parts = {name: merged_text(" ".join(dict.fromkeys(texts)), None) for name, texts in further.items()}
    if not any(parts.values()):
        return caption
    whole = [caption[:max_part_chars], *(f"{name}: {text[:max_part_chars]}" for name, text in parts.items() if text)]
    return " | ".join(part for part in whole if part)


def digests_of(media: Sequence[Mapping[str, Any]] | None, *kinds: str) -> list[str]:
    """SHA-256 of each of the post's media of these kinds, in their order, each once; `media` as the ledger holds it, or None."""
    found = [] if media is None else [str(item["digest"]) for item in media if item["kind"] in kinds]
    return list(dict.fromkeys(found))


def spread(frames: Sequence[str], most: int) -> list[str]:
    """At most so many key frames, evenly spread over all of them, first and last among them; each digest once."""
    distinct = list(dict.fromkeys(frames))
    if len(distinct) <= most:
        return distinct
    step = (len(distinct) - 1) / max(most - 1, 1)
    return [distinct[round(place * step)] for place in range(most)]


def _bare(hashtags: Sequence[str] | None) -> list[str]:
    """Hashtags as they would be spelt in a caption, without their #; what is empty then is none."""
    bare = [] if hashtags is None else [normalised(tag).removeprefix("#") for tag in hashtags]
    return [tag for tag in bare if tag]
