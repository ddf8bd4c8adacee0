"""In which languages the words that `ocr` finds can be trusted: its model knows Latin letters and Chinese characters.

Of other scripts it makes Latin letters that look alike, and is sure of them; see `feature_store/extractors/image/ocr.py`.
"""

from typing import Final

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
