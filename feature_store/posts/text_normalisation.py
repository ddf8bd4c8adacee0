"""One spelling for texts that look the same: what hides words from a machine goes, what a reader would miss stays.

NFC, not NFKC: canonical equivalence changes no meaning, whereas compatibility folding turns x² into x2, ½ into 1⁄2 and the Korean
laugh ㅋㅋ into other letters; tokenizers that want it (XLM-R's does) fold for themselves. Of its foldings we take one, letters and
digits in another dress (bold, circled, fullwidth), because people write in it to get past filters. Case and punctuation stay.
Sources: Unicode 16.0 chapters 2.12, 9, 12, 23; Unicode Technical Reports 15 (normal forms), 36 (security), 39 (confusables), 51 (emoji).
"""

import re
import unicodedata

# Shown by no font: C0 and C1 controls but for tabs and line ends, soft hyphen, grapheme joiner, Mongolian vowel separator, zero-width
# space and word joiner, marks and overrides of direction, invisible operators, byte-order mark, annotation marks, lone surrogates,
# and the variation selectors that no emoji uses (bytes have been smuggled in them).
_INVISIBLE = (
    "\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u034f\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0d\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0100-\U000e01ef"
)
_BLANK = "\u115f\u1160\u2800\u3164\uffa0"  # Hangul fillers and the empty Braille cell: letters by category, blank to the eye
_DRESSED = (
    "\u24b6-\u24e9\uff10-\uff19\uff21-\uff3a\uff41-\uff5a\U0001d400-\U0001d7ff"
    "\U0001f130-\U0001f149\U0001f150-\U0001f169\U0001f170-\U0001f189"
)
# White letters on black, which have no decomposition.
_NEGATIVE = {start + place: 65 + place for start in (0x1F150, 0x1F170) for place in range(26)}
_ALPHABETIC = "A-Za-z\xc0-\u058f"  # Latin, Greek, Cyrillic, Armenian: no joiner or variation selector does anything there
_MARKS = "\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20f0\ufe20-\ufe2f"  # combining marks of no particular script

_SUSPECT = re.compile(f"[{_INVISIBLE}{_BLANK}{_DRESSED}\u200c\u200d\ufe0e\ufe0f{_MARKS}\U000e0000-\U000e007f]")
_GONE = re.compile(f"[{_INVISIBLE}]")
_BLANKS = re.compile(f"[{_BLANK}]")
_DRESS = re.compile(f"[{_DRESSED}]+")
# A flag such as Scotland's is a black flag and tags; tags anywhere else are text that nobody sees.
_TAGS = re.compile("(\U0001f3f4[\U000e0020-\U000e007e]+\U000e007f)|[\U000e0000-\U000e007f]")
_IDLE_JOINER = re.compile(
    f"(?<=[{_ALPHABETIC}])[\u200c\u200d\ufe0e\ufe0f]+|[\u200c\u200d]+(?=[{_ALPHABETIC}\\s]|$)|(?<=[\u200c\u200d])[\u200c\u200d]+"
)
_STROKES = re.compile("[\u0334-\u0338]")  # through a letter; the letters and signs that have one are single characters in NFC
_HEAP_OF_MARKS = re.compile(f"[{_MARKS}]{{3,}}")

# Small letters and capitals that look alike. Source: UTR 39, confusables.txt, those alike in common fonts.
_CYRILLIC = dict(zip("аеорсухіјѕһԁԛԝАВЕКМНОРСТУХІЈЅԚԜ", "aeopcyxijshdqwABEKMHOPCTYXIJSQW", strict=True))
_GREEK = dict(zip("οινΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "oivABEZHIKMNOPTYX", strict=True))
_TO_LATIN = str.maketrans(_CYRILLIC | _GREEK)
_TO_CYRILLIC = str.maketrans({latin: cyrillic for cyrillic, latin in _CYRILLIC.items()})
_OTHER = "\u0370-\u03ff\u0400-\u052f"  # Greek and Cyrillic
_LATIN = "A-Za-z\xc0-\u024f"
_MIXED = re.compile(f"[{_LATIN}][{_OTHER}]|[{_OTHER}][{_LATIN}]")
_WORD = re.compile(f"[{_LATIN}{_OTHER}]+")
_ALL_LATIN = re.compile(f"[{_LATIN}]+")
_ALL_CYRILLIC = re.compile("[\u0400-\u052f]+")

# Three or more single letters or Han characters with the same sign or one space between each two: h a t e, h.a.t.e.
_SINGLE = f"[{_LATIN}{_OTHER}\u4e00-\u9fff]"
_SPREAD = re.compile(f"(?<![\\w.*_-]){_SINGLE}(?P<between>[ .*_-]){_SINGLE}(?:(?P=between){_SINGLE})+(?![\\w*_-])")


def normalised(text: str) -> str:
    """Bring a text into one spelling and one line.

    Goes: what no font shows, wherever it stands; joiners and variation selectors between letters that they do nothing to; tags
    outside flags; strokes through letters, and heaps of three marks or more on one. Stays: joiners in Indic and Arabic script and in
    emoji. Changes: letters in another dress into plain ones; look-alikes of another alphabet inside a word, where that makes the word of
    one alphabet; words spread out letter by letter, into words.

    Args:
        text: anything, lone surrogates included.

    Returns:
        text in NFC that UTF-8 can hold, its white space collapsed; the same again if given its own result.
    """
    if text.isascii():
        return _in_one_line(text if text.isprintable() else _GONE.sub("", text))
    text = unicodedata.normalize("NFC", text)
    if _SUSPECT.search(text):
        text = _BLANKS.sub(" ", _GONE.sub("", _TAGS.sub(r"\1", text)))
        text = _DRESS.sub(lambda found: unicodedata.normalize("NFKC", found[0].translate(_NEGATIVE)), text)
        text = unicodedata.normalize("NFC", _HEAP_OF_MARKS.sub("", _STROKES.sub("", _IDLE_JOINER.sub("", text))))
    text = _in_one_line(text)
    return _WORD.sub(_of_one_alphabet, text) if _MIXED.search(text) else text


def _in_one_line(text: str) -> str:
    """White space collapsed, and letters that were spread out together again; where words were apart by more than letters, they stay so."""
    for _ in range(2):
        text = " ".join(_SPREAD.sub(lambda found: found[0].replace(found["between"], ""), text).split())
    return text


def _of_one_alphabet(found: re.Match[str]) -> str:
    word = found[0]
    if not _MIXED.search(word):
        return word
    for alphabet, spelt in ((_ALL_LATIN, word.translate(_TO_LATIN)), (_ALL_CYRILLIC, word.translate(_TO_CYRILLIC))):
        if alphabet.fullmatch(spelt):
            return spelt
    return word
