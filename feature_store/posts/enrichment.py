"""What posts get from features, in a snapshot and when scored: whole text, language, key frames, sounds. Without media nothing changes."""

from collections.abc import Mapping
from typing import Any, Final

import pandas as pd

from upheld.common.params.data import Snapshot
from upheld.feature_store.contracts import hashing
from upheld.feature_store.contracts.tables import UNDETERMINED
from upheld.feature_store.features.table import Features
from upheld.feature_store.posts import post_features

_READ: Final = {"latn", "hans", "hant", "hani"}  # ISO 15924
# Languages that are mostly written in another script. Source: Unicode CLDR 48, likelySubtags, for the languages that fastText's
# lid.176 tells apart.
_OTHERS: Final = {
    "Arabic": "ar arz azb ckb fa mzn pnb ps sd ug ur",
    "Armenian": "hy",
    "Bengali": "as bn bpy",
    "Cyrillic": "ab av ba be bg bxr ce cu cv kk krc kv ky lez mdf mhr mk mn mrj myv os ru rue sah sr tg tt tyv udm uk xal",
    "Devanagari": "bh bho dty gom hi mai mr ne new sa",
    "Ethiopic": "am ti",
    "Georgian": "ka xmf",
    "Greek": "el",
    "Hebrew": "he yi",
    "Japanese, Korean": "ja ko",
    "of India, one each": "gu kn ml or pa ta te",
    "of Asia, one each": "bo dv dz km lo my si th",
}
_UNREAD: Final = frozenset(language for languages in _OTHERS.values() for language in languages.split())


def readable(language: str) -> bool:
    """Whether the words found in the pictures of a post in this language belong to its text.

    Args:
        language: BCP-47 tag, whose script counts where it names one, such as `sr-Latn`; `und` is given the benefit of the doubt.
    """
    primary, *further = language.lower().split("-")
    script = next((part for part in further if len(part) == 4 and part.isalpha()), None)
    return script in _READ if script else primary not in _UNREAD


def enriched(posts: pd.DataFrame, features: Features, settings: Snapshot) -> pd.DataFrame:
    """Add what the pinned features know of the posts.

    Args:
        posts: post_id, language, media (list of {kind, digest}) and caption (merged text), one row a post.

    Returns:
        `posts` with caption_digest, text (caption, transcripts and, where the script of the language can be read there, words in
            pictures), language (`und` replaced where it was recognised), image_digests (stills, then num_frames key frames),
            video_digests, sound_digests (sounds and videos), and audio_digests (those with a spectrogram).
    """
    media = {
        kind: posts["media"].map(lambda items, kinds=kinds: post_features.digests_of(items, *kinds))
        for kind, kinds in post_features.MEDIA_OF.items()
    }
    rows = features.rows("keyframes", _all(media["video"]), ["frame_digests"])
    frames_of = {name: row["frame_digests"] or [] for name, row in rows.items()}  # in order of time
    frames = media["video"].map(
        lambda videos: post_features.spread([frame for video in videos for frame in frames_of.get(video, [])], settings.max_frames)
    )
    pairs = zip(media["image"], frames, strict=True)
    shots = [[*stills, *(frame for frame in moving if frame not in stills)] for stills, moving in pairs]
    pictures = pd.Series(shots, index=posts.index, dtype=object)
    speech = features.rows("transcript", _all(media["audio"]), ["text", "language", "language_prob"])
    written = features.rows("ocr", _all(pictures), ["text"])
    spectrograms = features.rows("spectrogram", _all(media["audio"]), ["num_frames"])
    found = posts.assign(
        caption_digest=posts["caption"].map(lambda caption: hashing.of_bytes(caption.encode()) if caption else None).astype(object),
        image_digests=pictures,
        num_frames=[len(of_post) - len(stills) for of_post, stills in zip(pictures, media["image"], strict=True)],
        video_digests=media["video"],
        sound_digests=media["audio"],
        audio_digests=media["audio"].map(lambda names: [name for name in names if spectrograms.get(name, {}).get("num_frames")]),
    )
    # The post's own language; for `und` that of its caption, else that of its speech, where it was recognised surely enough.
    unknown = found["language"] == UNDETERMINED
    captioned = features.rows("language", found.loc[unknown, "caption_digest"].dropna(), ["language", "prob"])
    languages = []
    for language, caption, names in zip(found["language"], found["caption_digest"], media["audio"], strict=True):
        heard = [speech[name] for name in names if name in speech and speech[name]["text"]]
        recognised = [(row["language"], row["prob"]) for row in [captioned.get(caption)] if row]
        recognised += [(row["language"], row["language_prob"]) for row in heard]
        sure = [name for name, prob in recognised if name and (prob or 0) >= settings.min_language_prob]
        languages.append(sure[0] if language == UNDETERMINED and sure else language)
    found["language"] = languages
    shown = [names if readable(language) else [] for names, language in zip(pictures, found["language"], strict=True)]
    texts = zip(posts["caption"], media["audio"], shown, strict=True)
    return found.assign(
        text=[
            post_features.whole_text(caption, _texts(speech, sounds), _texts(written, names), settings.max_part_chars)
            for caption, sounds, names in texts
        ]
    )


def captions(posts: pd.DataFrame) -> list[tuple[str | None, Any]]:
    """Caption and hashtags of each post as the ledger holds them, ready for `post_features`."""
    return list(zip(posts["text"].astype(object).where(posts["text"].notna(), None), posts["hashtags"], strict=True))


def _all(lists: "pd.Series[Any]") -> set[str]:
    return {name for names in lists for name in names}


def _texts(rows: Mapping[str, Mapping[str, Any]], names: list[str]) -> list[str]:
    return [rows[name]["text"] for name in names if name in rows and rows[name]["text"]]
