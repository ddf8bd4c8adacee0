"""Sentences of the sample world: templates with slots, one YAML file a language beside this module."""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import yaml

LANGUAGES = ("en", "de", "es", "fr", "pt", "tr", "hi", "id")

# stance -> whether it breaks the policy. `quote` and `endorse` hold the same violating sentence: only what stands around it differs.
STANCES = {"violating": 1, "veiled": 1, "endorse": 1, "quote": 0, "borderline": 0, "benign": 0}
HARD_STANCES = ("veiled", "endorse", "quote", "borderline")

_SLOT = re.compile(r"{(\w+)}")
_CURRENCIES = {"en": "£", "hi": "₹", "tr": "₺", "pt": "R$", "id": "Rp"}
_PROB_OPENER, _PROB_CLOSER, _PROB_MORE, _PROB_TYPO, _PROB_NEW_WORD = 0.5, 0.5, 0.4, 0.2, 0.5


@dataclass(frozen=True)
class Writer:
    """Who writes: a language, the week of the world (1 is the first), and the random stream it draws from."""

    language: str
    week: int
    rng: random.Random

    def sentence(self, policy: str, stance: str) -> str:
        """A sentence about a policy's matter that takes one of STANCES."""
        if stance in ("quote", "endorse"):
            frame = self.rng.choice(_grammar(self.language)[stance])
            return self._fill(frame.replace("{quote}", self.sentence(policy, "violating")))
        return self._fill(self.rng.choice(_grammar(self.language)["policies"][policy][stance]))

    def chatter(self) -> str:
        """A sentence about everyday life that has to do with no policy."""
        return self._fill(self.rng.choice(_grammar(self.language)["chatter"]))

    def caption(self) -> str:
        """A few words under a picture that tell nothing of what it shows."""
        return self._fill(self.rng.choice(_grammar(self.language)["captions"]))

    def tags(self, policy: str | None) -> list[str]:
        """One or two hashtags, of the policy's own or of everyday life."""
        grammar = _grammar(self.language)
        words: Sequence[str] = grammar["policies"][policy]["tags"] if policy else grammar["tags"]
        return self.rng.sample(list(words), self.rng.choice((1, 1, 2)))

    def dress(self, sentence: str) -> str:
        """Put small talk around a sentence, so that few posts are copies of others, and now and then a slip of the finger into it."""
        grammar = _grammar(self.language)
        opener: str = self.rng.choice(grammar["openers"]) + " " if self.rng.random() < _PROB_OPENER else ""
        closer = " " + self._fill(self.rng.choice(grammar["closers"])) if self.rng.random() < _PROB_CLOSER else ""
        said = [self._slip(sentence) if self.rng.random() < _PROB_TYPO else sentence]
        if self.rng.random() < _PROB_MORE:
            said.insert(self.rng.randrange(2), self.chatter())
        return opener + " ".join(said) + closer

    def _fill(self, template: str) -> str:
        filled: str = _SLOT.sub(lambda match: self._word(match[1]), template)
        return filled[:1].upper() + filled[1:]

    def _word(self, slot: str) -> str:
        if slot in _MADE:
            return _MADE[slot](self)
        grammar = _grammar(self.language)
        newer = [word for since, words in grammar["later"].items() if self.week >= since for word in words.get(slot, ())]
        words = newer if newer and self.rng.random() < _PROB_NEW_WORD else grammar["slots"][slot]
        return str(self.rng.choice(words))

    def _slip(self, sentence: str) -> str:
        at = self.rng.randrange(max(len(sentence) - 1, 1))
        pair = sentence[at : at + 2]
        return sentence[:at] + pair[::-1] + sentence[at + 2 :] if pair.isalpha() else sentence


def _price(writer: Writer) -> str:
    return f"{writer.rng.choice((9, 19, 49, 80, 120, 250, 400, 990)) + writer.rng.randrange(10)} {_CURRENCIES.get(writer.language, '€')}"


def _url(writer: Writer) -> str:
    # .example is reserved (RFC 2606), so that no address leads anywhere.
    name = writer.rng.choice(("glimmer", "quickbox", "sunnyday", "bestpick", "mooncart")) + writer.rng.choice(
        ("-deals", "-win", "-pay", "")
    )
    return f"{name}.example/{writer.rng.randrange(4096):x}"


_MADE: dict[str, Callable[[Writer], str]] = {
    "price": _price,
    "url": _url,
    "number": lambda writer: str(writer.rng.randint(2, 30)),
    "code": lambda writer: "".join(writer.rng.choices("ABCDEFGHKLMNPRSTUVWXYZ23456789", k=6)),
}


@cache
def _grammar(language: str) -> dict[str, Any]:
    text = resources.files("upheld.feature_store.sample_world").joinpath("texts", f"{language}.yaml").read_text(encoding="utf-8")
    grammar: dict[str, Any] = yaml.safe_load(text)
    return grammar
