"""Language identification on sentences of our own."""

import os
import socket
from pathlib import Path

import pytest

from upheld.common.params import params
from upheld.feature_store.contracts import tables as contracts
from upheld.feature_store.decoding.contract import Arrays
from upheld.feature_store.extractors.text.language import Language

SENTENCES = {
    "en": "The parcel never arrived, and nobody answers the phone.",
    "de": "Das Paket ist nie angekommen, und niemand geht ans Telefon.",
    "pt": "O pacote nunca chegou e ninguém atende o telefone.",
    "es": "El paquete nunca llegó y nadie contesta el teléfono.",
    "fr": "Le colis n'est jamais arrivé et personne ne répond au téléphone.",
    "zh": "包裹一直没有到，电话也没有人接。",
    "ja": "荷物がまだ届きません。電話にも誰も出ません。",
    "ko": "소포가 아직 도착하지 않았고 아무도 전화를 받지 않아요.",
    "th": "พัสดุยังมาไม่ถึงและไม่มีใครรับโทรศัพท์",
    "hi": "पार्सल अभी तक नहीं आया और कोई फ़ोन नहीं उठा रहा है।",
    "ar": "لم يصل الطرد بعد ولا أحد يرد على الهاتف.",
    "ru": "Посылка так и не пришла, и никто не берёт трубку.",
    "tr": "Paket hâlâ gelmedi ve kimse telefona bakmıyor.",
    "gsw": "S Päckli isch no nöd aacho, und niemer nimmt s Telefon ab. Mir händ scho lang gwartet.",
}


@pytest.fixture(scope="module")
def language() -> Language:
    return Language(params.load(Path("params.yaml")))


def found(language: Language, *texts: str) -> list[tuple[str, float]]:
    rows = language.extract([language.decode(text.encode()) for text in texts])
    return [(row["language"], row["prob"]) for row in rows if isinstance(row, dict)]


def test_sentences_in_order(language: Language) -> None:
    assert [tag for tag, _ in found(language, *SENTENCES.values())] == list(SENTENCES)


def test_links_names_and_shouting_do_not_mislead(language: Language) -> None:
    texts = [
        "https://example.com/the-best-offers-of-the-week @paul " + SENTENCES["de"],
        SENTENCES["en"].upper(),
        "#wichtig " + SENTENCES["de"].upper(),
        SENTENCES["hi"] + " 😀😀😀 12345",
    ]
    assert [tag for tag, _ in found(language, *texts)] == ["de", "en", "de", "hi"]


@pytest.mark.parametrize("text", ["", "   ", "😀😀", "12345 !!!", "https://example.com/page", "@name", "###"])
def test_where_nothing_is_spelt(language: Language, text: str) -> None:
    assert found(language, text) == [("und", 0.0)]


def test_what_is_unsure_is_undetermined(language: Language) -> None:
    ((tag, prob),) = found(language, "no")
    assert (tag, prob < 0.5) == ("und", True)
    unsure = Language(params.load(Path("params.yaml"), ["language.min_prob=0.0"]))
    assert found(unsure, "no")[0][0] != "und"
    assert unsure.version != language.version


def test_tags_are_what_the_ledger_takes(language: Language) -> None:
    import re

    labels = language._model.predict("x", k=200, threshold=-1.0)[0]
    from upheld.feature_store.extractors.text.language import _BCP_47

    tags = [_BCP_47.get(code, code) for code in (label.removeprefix("__label__") for label in labels)]
    assert len(tags) == len(set(tags)) == 176
    assert all(re.fullmatch(contracts.LANGUAGE_PATTERN, tag) for tag in tags)


def test_nothing_is_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("tried to reach the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("FTLANG_CACHE", str(tmp_path))
    fresh = Language(params.load(Path("params.yaml")))
    assert found(fresh, SENTENCES["en"])[0][0] == "en"
    assert os.listdir(tmp_path) == []


def test_a_batch_is_its_rows_one_by_one(language: Language) -> None:
    batch: list[Arrays] = [language.decode(text.encode()) for text in SENTENCES.values()]
    assert language.extract(batch) == [row for arrays in batch for row in language.extract([arrays])]
