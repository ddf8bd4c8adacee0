"""Texts that look the same are spelt the same; nothing that a reader sees is lost."""

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upheld.feature_store.posts.text_normalisation import normalised


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("ha\u200bte", "hate"),
        ("h\u200ca\u2060t\xade", "hate"),
        ("h\ufe0fi", "hi"),
        ("a\U000e0068\U000e0069b", "ab"),
        ("😀\U000e0140\U000e0151", "😀"),
        ("x\u202eabc\u2066d\u200f", "xabcd"),
        ("\ud800x", "x"),
        ("aa\tb\u2028cc\x85d\r\n ee", "aa b cc d ee"),
        ("you h a t e  t h e m", "you hate them"),
        ("d.i.e, k-y-s and h*a*t*e", "die, kys and hate"),
        ("в с е м, 我 恨 你", "всем, 我恨你"),
        ("h\u200b a\u200b t\u200b е", "hate"),
        ("a\x00b\x1bc", "abc"),
        ("한\u3164글", "한 글"),
        ("𝐟𝓻𝖊𝚎 ⓜoney Ｎｏｗ ２４ 🅵🆁🅴🅴 🄰", "free money Now 24 FREE A"),
        ("e\u0301", "é"),
        ("Z\u0301\u0302\u0303\u0304\u0305\u0306algo", "Źalgo"),
        ("h\u0336a\u0335\u0336t\u0338e ≠ ø", "hate ≠ ø"),
        ("раypаl", "paypal"),
        ("xуйня", "хуйня"),
        ("Βank", "Bank"),
    ],
)
def test_what_hides_words_goes(written: str, expected: str) -> None:
    assert normalised(written) == expected


@pytest.mark.parametrize(
    "text",
    [
        "क्\u200dष",
        "می\u200cخواهم",
        "👩\u200d👩\u200d👧 ❤\ufe0f 1\ufe0f\u20e3 🇩🇪",
        "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
        "x² ½ ㅋㅋㅋ ﬁ №",
        "你好，世界！（好）",
        "привет Ελλάδα",
        "vкontakte Аβ μm",
        "Việt ngữ שָׁלוֹם",
        "don’t SHOUT",
        "e.g. at 5 p.m. a day, 1 2 3, a - b - c",
        "我们 爱 你们 www.a.b.c.com",
    ],
)
def test_what_a_reader_would_miss_stays(text: str) -> None:
    assert normalised(text) == text


ODD = "a\u200c\u200d\ufe0f\u0301а🅰👧ก\u200b\U000e0020\U0001f3f4\u3164 𝐡.*-_\u0336\u0338\u0302="


@given(st.text(st.characters(codec=None) | st.sampled_from(ODD)))
def test_result_is_stable_and_sound(text: str) -> None:
    once = normalised(text)
    assert normalised(once) == once
    assert unicodedata.is_normalized("NFC", once)
    once.encode()
    assert once == " ".join(once.split())


@pytest.mark.parametrize("piece", ["é", "аa", "\u200d", "\u200d👧", "\u0301", "\U0001f3f4\U000e0067", "𝐡", "a\u200c", "a ", "a.", "é*"])
def test_time_grows_with_length_alone(piece: str) -> None:
    started = time.perf_counter()
    normalised(piece * 300_000)
    assert time.perf_counter() - started < 5
