"""What attacks on spelling do to words, and that a reader can still read them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upheld.training.robustness.words import ATTACKS, EVERY_EDIT, attacked, chance, letters_of, pieces

# Edits of a word of N letters, at most, as characters put in, left out or replaced; marks count with the letter that they stand on.
MOST = {"swap": lambda n, width: 2 * width, "zero_width": lambda n, width: 1, "repeat": lambda n, width: 2 * width}
MOST |= dict.fromkeys(("drop", "starred"), lambda n, width: width)
MOST |= dict.fromkeys(("spacing", "dotted"), lambda n, width: n - 1) | {"struck_through": lambda n, width: n}
MOST |= dict.fromkeys(("homoglyphs", "leetspeak"), lambda n, width: n) | {"transliteration": lambda n, width: 4 * n}

SCRIPTS = (
    "latin ÄÉßñçıŁ",
    "кириллица щёЖ",
    "ελληνικά",
    "हिन्दी क्षत्रिय",
    "漢字文章判定",
    "ひらがなカタカナ",
    "ภาษาไทย",
    "한국어",
    "عربى",
    "0123",
    ".,!#@",
    "  ",
)
texts = st.lists(st.sampled_from("".join(SCRIPTS)), max_size=60).map("".join) | st.text(max_size=40)


def distance(one: str, other: str) -> int:
    """Levenshtein's distance, row by row (Wagner & Fischer 1974)."""
    row = list(range(len(other) + 1))
    for number, letter in enumerate(one, 1):
        above, row[0] = row[0], number
        for place, against in enumerate(other, 1):
            above, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, above + (letter != against))
    return row[-1]


@pytest.mark.parametrize("name", EVERY_EDIT)
@given(text=texts, share=st.floats(0, 1), seed=st.integers(0, 99))
def test_no_more_is_edited_than_is_said_and_a_word_stays_readable(name: str, text: str, share: float, seed: int) -> None:
    found = attacked(text, EVERY_EDIT[name], np.random.default_rng(seed), share)
    assert distance(text, found.text) <= found.edits
    assert (found.text == text) == (found.edits == 0)
    parts, places = pieces(text)
    words = [letters_of(parts[place]) for place in places]
    most = sorted((MOST[name](len(letters), max(map(len, letters))) for letters in words), reverse=True)
    assert found.edits <= sum(most[: max(1, round(share * len(words)))])


@given(text=texts)
def test_the_pieces_of_a_text_make_it_up_again(text: str) -> None:
    parts, places = pieces(text)
    assert "".join(parts) == text
    assert all("".join(letters_of(parts[place])) == parts[place] for place in places)


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("homoglyphs", "peace", "реасе"),
        ("homoglyphs", "москва", "mocквa".replace("m", "м")),
        ("homoglyphs", "한국어로", "한국어로"),
        ("homoglyphs", "人力", "⼈⼒"),
        ("leetspeak", "hates", "h4735"),
        ("leetspeak", "злоба", "3л0б4"),
        ("transliteration", "Щука", "Shchuka"),
        ("transliteration", "подъезд", "podezd"),
        ("transliteration", "Straße", "Strasse"),
        ("transliteration", "Élève", "Eleve"),
        ("transliteration", "ψυχή", "psychi"),
        ("transliteration", "नमस्ते", "नमस्ते"),
        ("spacing", "hate", "h a t e"),
        ("spacing", "判定", "判 定"),
        ("dotted", "नमस्ते", "न.म.स्.ते"),
        ("zero_width", "判定", "判\u200b定"),
        ("struck_through", "hate", "h\u0336a\u0336t\u0336e\u0336"),
    ],
)
def test_a_word_is_spelt_anew(name: str, before: str, after: str) -> None:
    assert attacked(before, EVERY_EDIT[name], np.random.default_rng(0), 1.0).text == after


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("swap", {"htaes", "haets", "hatse"}),
        ("drop", {"htes", "haes", "hats", "hate"}),
        ("repeat", {"haaates", "hatttes", "hateees", "hatesss"}),
        ("starred", {"h*tes", "ha*es", "hat*s", "hate*"}),
        ("zero_width", {"h\u200bates", "ha\u200btes", "hat\u200bes", "hate\u200bs"}),
    ],
)
def test_a_place_is_drawn_after_the_first_letter(name: str, expected: set[str]) -> None:
    draw = np.random.default_rng(5)
    assert {attacked("hates", EVERY_EDIT[name], draw, 1.0).text for _ in range(200)} == expected


@pytest.mark.parametrize(
    "text", ["これは本当に悪い文章です", "这是一段很坏的文字", "Это очень плохой текст", "यह बहुत बुरा पाठ है", "아주 나쁜 글"]
)
def test_something_is_done_in_every_script(text: str) -> None:
    changed = {name for name, edit in ATTACKS.items() if attacked(text, edit, np.random.default_rng(1), 1.0).edits}
    assert {"swap", "zero_width", "spacing", "repeat", "drop"} <= changed


def test_short_words_links_and_what_lies_between_stay() -> None:
    text = "see https://example.org/hateful/page or www.example.org, an old #häßlich…"
    for name, edit in EVERY_EDIT.items():
        found = attacked(text, edit, np.random.default_rng(2), 1.0).text
        assert found.startswith("see https://example.org/hateful/page or www.example.org, an old #"), name
        assert found.endswith("…") and found != text


def test_half_of_the_words_are_attacked_and_at_least_one() -> None:
    text = " ".join(["hateful"] * 9)
    for share, expected in ((0.5, 4), (0.0, 1), (1.0, 9)):
        found = attacked(text, ATTACKS["leetspeak"], np.random.default_rng(3), share).text.split(" ")
        assert sum(word != "hateful" for word in found) == expected


def test_chance_is_of_the_seed_the_attack_and_the_post() -> None:
    draws = {key: chance(*key).integers(2**62) for key in ((1, "swap", "a"), (1, "swap", "b"), (1, "drop", "a"), (2, "swap", "a"))}
    assert len(set(draws.values())) == 4
    assert chance(1, "swap", "a").integers(2**62) == draws[1, "swap", "a"]
