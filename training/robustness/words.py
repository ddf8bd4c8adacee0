"""Attacks on the spelling of a text, drawn and not searched for: a reader still reads it, a model may not.

A single letter that is attacked is never a word's first, which carries most for a reader (Grainger & Whitney 2004, Does the huamn mnid raed
wrods as a wlohe?). Text of a script without spaces is attacked in pieces of two letters.
Source of the single-letter attacks: Gao, Lanchantin, Soffa & Qi (2018), Black-box Generation of Adversarial Text Sequences to Evade Deep
Learning Classifiers (DeepWordBug); of look-alikes and leetspeak: Eger et al. (2019), Text Processing Like Humans Do (VIPER).
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from upheld.feature_store.contracts import hashing

MIN_CHARS = 4  # of a word, unless its letters are syllables or words: a shorter one is seldom read again once one of them has changed


class Attacked(NamedTuple):
    """A text after an attack, and how many characters were put in, left out or replaced: at least its edit distance to the text before."""

    text: str
    edits: int


# Letters of a word, each with the marks it bears, and a source of chance -> the word attacked, and edits as `Attacked` counts them.
Edit = Callable[[Sequence[str], np.random.Generator], Attacked]

_MARKS = "".join(chr(code) for code in range(0x300, 0x20000) if unicodedata.category(chr(code)).startswith("M")) + "\u200c\u200d"
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff"  # Thai to Khmer, kana, Han
_DENSE = re.compile(f"[{_UNSPACED}\uac00-\ud7a3]")  # and Hangul
_LETTER = re.compile(f"[^\\W_][{_MARKS}]*")
_PIECE = f"[{_UNSPACED}][{_MARKS}]*"
_WORD = re.compile(f"(?:{_PIECE}){{1,2}}|(?:(?![{_UNSPACED}]){_LETTER.pattern})+")
_LINK = re.compile(r"https?://\S+|\bwww\.\S+", re.IGNORECASE)  # stays as it is: what leads nowhere is no use to whoever posts it

# Look-alikes in common fonts. Source: Unicode Technical Standard 39, confusables.txt; of Han, the Kangxi radicals' own decompositions.
_CYRILLIC = dict(zip("aceijopsxyABCEHIJKMOPSTXY", "асеіјорѕхуАВСЕНІЈКМОРЅТХУ", strict=True))
_LATIN = {alike: letter for letter, alike in _CYRILLIC.items()} | dict(zip("οινΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "oivABEZHIKMNOPTYX", strict=True))
_RADICALS = {chr(int(unicodedata.decomposition(chr(code)).split()[1], 16)): chr(code) for code in range(0x2F00, 0x2FD6)}
_KANA = dict(zip("カエロニハタトへ", "力工口二八夕卜ヘ", strict=True))
_ALIKE = _RADICALS | _KANA | _LATIN | _CYRILLIC
_LEET = dict(zip("aeiostAEIOSTаеозчАЕОЗЧ", "4310574310574303443034", strict=True))
# What people type who lack the keyboard. Sources: BGN/PCGN romanisation, without its diacritics; ELOT 743, for Greek.
_ROMAN = (
    dict(zip("абвгдезийклмнопрстуфыэі", "abvgdeziyklmnoprstufyei", strict=True))
    | {"ж": "zh", "х": "kh", "ц": "ts", "ч": "ch", "ш": "sh", "щ": "shch", "ъ": "", "ь": "", "ю": "yu", "я": "ya", "ё": "e", "є": "ye"}
    | dict(zip("αβγδεζηικλμνξοπρσςτυφω", "avgdeziiklmnxoprsstyfo", strict=True))
    | {"θ": "th", "χ": "ch", "ψ": "ps", "ß": "ss", "ı": "i", "ł": "l", "ø": "o", "đ": "d", "æ": "ae", "œ": "oe"}
)


def _place(letters: Sequence[str], draw: np.random.Generator, width: int = 1) -> int:
    """Where `width` letters in a row are attacked, not the first one if there are others."""
    last = len(letters) - width
    return int(draw.integers(min(1, last), last + 1))


def _replaced(letters: Sequence[str], first: int, width: int, instead: str) -> str:
    return "".join([*letters[:first], instead, *letters[first + width :]])


def _swap(letters: Sequence[str], draw: np.random.Generator) -> Attacked:
    first = _place(letters, draw, 2)
    one, other = letters[first : first + 2]
    return Attacked(_replaced(letters, first, 2, other + one), 0 if one == other else len(one + other))


def _zero_width(letters: Sequence[str], draw: np.random.Generator) -> Attacked:
    return Attacked(_replaced(letters, _place(letters, draw), 0, "\u200b"), 1)


def _repeat(letters: Sequence[str], draw: np.random.Generator) -> Attacked:
    place = _place(letters, draw)
    return Attacked(_replaced(letters, place, 1, letters[place] * 3), 2 * len(letters[place]))


def _drop(letters: Sequence[str], draw: np.random.Generator) -> Attacked:
    place = _place(letters, draw)
    return Attacked(_replaced(letters, place, 1, ""), len(letters[place]))


def _starred(letters: Sequence[str], draw: np.random.Generator) -> Attacked:
    place = _place(letters, draw)
    return Attacked(_replaced(letters, place, 1, "*"), len(letters[place]))


def _joined(by: str) -> Edit:
    return lambda letters, draw: Attacked(by.join(letters), len(by) * (len(letters) - 1))


def _struck(letters: Sequence[str], draw: np.random.Generator) -> Attacked:
    return Attacked("".join(letter + "\u0336" for letter in letters), len(letters))


def _spelt(table: dict[str, str]) -> Edit:
    return lambda letters, draw: _counted(letters, [table.get(letter, letter) for letter in letters])


def _roman(letters: Sequence[str], draw: np.random.Generator) -> Attacked:
    found = []
    for letter in letters:
        bare = unicodedata.normalize("NFD", letter)[0].lower()  # without its accent
        plain = _ROMAN.get(letter.lower(), _ROMAN.get(bare, bare if bare.isascii() else letter))
        found.append(plain.capitalize() if letter[0].isupper() else plain)
    return _counted(letters, found)


def _counted(letters: Sequence[str], found: Sequence[str]) -> Attacked:
    pairs = zip(letters, found, strict=True)
    return Attacked("".join(found), sum(max(len(old), len(new)) for old, new in pairs if old != new))


# The attacks that are measured one by one, each on words drawn at random.
ATTACKS: dict[str, Edit] = {
    "swap": _swap,
    "homoglyphs": _spelt(_ALIKE),
    "zero_width": _zero_width,
    "spacing": _joined(" "),
    "leetspeak": _spelt(_LEET),
    "transliteration": _roman,
    "repeat": _repeat,
    "drop": _drop,
}
EVERY_EDIT = ATTACKS | {"dotted": _joined("."), "struck_through": _struck, "starred": _starred}  # what a search chooses from


def chance(seed: int, attack: str, name: str) -> np.random.Generator:
    """The source of chance of one attack on one post: the same whichever posts are attacked beside it, and in whatever order."""
    return np.random.default_rng(int(hashing.of_json([seed, attack, name])[:32], 16))


def pieces(text: str) -> tuple[list[str], list[int]]:
    """Cut a text into parts that make it up again, and say which of them are words that can be attacked.

    Returns:
        the parts, and the places of words among them: of two letters and MIN_CHARS characters or more, or pieces of two dense letters.
    """
    parts, places, end = [], [], 0
    links = [found.span() for found in _LINK.finditer(text)]
    for found in _WORD.finditer(text):
        letters = letters_of(found[0])
        is_whole = len(letters) > 1 and (len(found[0]) >= MIN_CHARS or _DENSE.match(found[0]) is not None)
        if is_whole and not any(first <= found.start() < last for first, last in links):
            parts += [text[end : found.start()], found[0]]
            places.append(len(parts) - 1)
            end = found.end()
    return [*parts, text[end:]], places


def letters_of(word: str) -> list[str]:
    """The letters of a word, each with the marks that it bears."""
    return _LETTER.findall(word)


def attacked(text: str, edit: Edit, draw: np.random.Generator, share: float) -> Attacked:
    """Attack words drawn at random, each once.

    Args:
        text: anything.
        edit: what is done to a word.
        draw: the source of chance, the only one.
        share: of the words that `pieces` finds, in [0, 1]; rounded, and at least one word.

    Returns:
        the text, and all edits in it; as it came where there is no word, or the edit does nothing to those drawn.
    """
    parts, places = pieces(text)
    num_words = min(len(places), max(1, round(share * len(places))))
    edits = 0
    for place in sorted(draw.choice(places, num_words, replace=False).tolist() if places else []):
        parts[place], more = edit(letters_of(parts[place]), draw)
        edits += more
    return Attacked("".join(parts), edits)
