"""Near-duplicate texts against a quadratic comparison of trigram sets."""

import random
import time
from collections.abc import Callable

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upheld.feature_store.splits.groups import near_duplicates, normalised

SYLLABLES = {
    "en": ["ba", "ro", "lin", "ter", "sho", "mak", "ing", "ed", "pra", "ne", " ", " ", " "],
    "zh": list("天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往秋收冬藏"),
    "th": ["กา", "ขอ", "คน", "งาน", "จะ", "ฉัน", "ชื่อ", "ซื้อ", "ดี", "ตัว", "ถึง", "ที่"],
}


def trigrams(text: str) -> set[str]:
    return {text[start : start + 3] for start in range(len(text) - 2)}


def similarity(one: str, other: str) -> float:
    return len(trigrams(one) & trigrams(other)) / len(trigrams(one) | trigrams(other))


def sentence(rng: random.Random, language: str, length: int) -> str:
    return "".join(rng.choice(SYLLABLES[language]) for _ in range(length)).strip()


def sets_of(texts: dict[str, str], min_similarity: float = 0.7) -> dict[str, str]:
    return near_duplicates(pd.Series(texts).map(normalised), min_similarity).to_dict()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Win 500 EUR NOW!!! https://a.example/x1", "win 942 eur now... http://b.example/zz"),
        ("@ann @bob see you", "@carl see you"),
        ("ｆｕｌｌ　ｗｉｄｔｈ", "Full width"),
        ("zero\u200bwidth", "zerowidth"),
        ("ไม่ดี!!", "ไม่ดี"),
    ],
)
def test_what_spam_varies_is_normalised_away(one: str, other: str) -> None:
    assert normalised(one) == normalised(other)


def test_vowel_signs_and_emoji_are_kept() -> None:
    assert normalised("มีดี") != normalised("มาดา")
    assert normalised("की") != normalised("का")
    assert normalised("good 🙂") != normalised("good 🙁")
    assert normalised("!!!") == "!!!"


@pytest.mark.parametrize("language", list(SYLLABLES))
def test_finds_what_quadratic_comparison_finds(language: str) -> None:
    """Of the pairs that a full comparison calls similar, nearly all are together; unlike texts are apart."""
    rng = random.Random(language)
    texts = {}
    for number in range(60):
        original = sentence(rng, language, 40)
        position = rng.randrange(len(original))
        texts[f"{number:02}a"] = original
        texts[f"{number:02}b"] = original[:position] + rng.choice(SYLLABLES[language]) + original[position + 1 :]
    forms = {name: normalised(text) for name, text in texts.items()}
    found = sets_of(texts)
    names = sorted(forms)
    similar = [(a, b) for a in names for b in names if a < b and similarity(forms[a], forms[b]) >= 0.7]
    assert len(similar) >= 50
    assert sum(found[a] == found[b] for a, b in similar) >= 0.97 * len(similar)
    assert all(found[a] != found[b] for a in names for b in names if a[:2] < b[:2])


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(sorted(SYLLABLES)), st.integers(0, 3), st.integers(0, 30)), max_size=15),
    st.randoms(use_true_random=False),
)
def test_order_does_not_matter_and_names_are_the_smallest(drawn: list[tuple[str, int, int]], shuffler) -> None:
    texts = {f"p{n}": sentence(random.Random(seed), language, length) for n, (language, seed, length) in enumerate(drawn)}
    found = sets_of(texts)
    names = list(texts)
    shuffler.shuffle(names)
    assert sets_of({name: texts[name] for name in names}) == found
    assert set(found) == {name for name, text in texts.items() if text}
    for name, leader in found.items():
        assert leader <= name
        assert found[leader] == leader


def test_a_template_used_by_thousands_stays_linear() -> None:
    rng = random.Random(3)
    base = sentence(rng, "en", 60)
    texts = {f"p{n:05}": base + sentence(rng, "en", 6) for n in range(3000)}
    start = time.process_time()
    found = sets_of(texts, 0.6)
    assert time.process_time() - start < 10
    assert pd.Series(found).value_counts().iloc[0] > 2900


@pytest.mark.timed
@pytest.mark.slow
def test_twenty_thousand_texts_in_twenty_seconds(slowness: Callable[[], float]) -> None:
    rng = random.Random(5)
    texts = {f"p{n:05}": sentence(rng, rng.choice(sorted(SYLLABLES)), 45) for n in range(20_000)}
    start = time.process_time()
    sets_of(texts)
    took_s = time.process_time() - start
    assert took_s < 20 * slowness()
