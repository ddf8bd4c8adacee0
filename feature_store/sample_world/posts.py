"""Posts of one week of the sample world, their sentences from templates (one YAML file a language), and the truth about them."""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib import resources
from typing import Any

import pandas as pd
import yaml

from upheld.common.params.data import SampleData
from upheld.feature_store.sample_world import logos, pictures
from upheld.feature_store.sample_world.base import identifier, stream, weighted
from upheld.feature_store.sample_world.planted import JOINT_POLICY, planted

LANGUAGES = ("en", "de", "es", "fr", "pt", "tr", "hi", "id")

# stance -> whether it breaks the policy. `quote` and `endorse` hold the same violating sentence: only what stands around it differs.
STANCES = {"violating": 1, "veiled": 1, "endorse": 1, "quote": 0, "borderline": 0, "benign": 0}
HARD_STANCES = ("veiled", "endorse", "quote", "borderline")

_SLOT = re.compile(r"{(\w+)}")
_CURRENCIES = {"en": "£", "hi": "₹", "tr": "₺", "pt": "R$", "id": "Rp"}
_PROB_OPENER, _PROB_CLOSER, _PROB_MORE, _PROB_TYPO, _PROB_NEW_WORD = 0.5, 0.5, 0.4, 0.2, 0.5
POLICIES = ("hate_speech", "spam", "misinformation", "dangerous_content", "graphic_violence")
REGIONS = {
    "en": ("GB", "US", "IE", "IN"),
    "de": ("DE", "AT", "CH"),
    "es": ("ES", "MX", "AR"),
    "fr": ("FR", "CA", "SN"),
    "pt": ("BR", "PT"),
    "tr": ("TR", "DE"),
    "hi": ("IN",),
    "id": ("ID",),
}

# Shares of the first week and what a week adds to them, until they stay: the drift of the world.
_LANGUAGE_WEIGHTS = dict(
    zip(LANGUAGES, ((0.24, 0.0), (0.14, 0.0), (0.13, 0.0), (0.12, 0.0), (0.13, 0.0), (0.10, 0.0), (0.10, 0.0), (0.04, 0.025)), strict=True)
)
_TOPIC_WEIGHTS = dict(zip(POLICIES, ((0.16, 0.0), (0.17, -0.008), (0.13, 0.012), (0.16, 0.0), (0.13, 0.004)), strict=True)) | {
    None: (0.30, 0.0)
}
_DRIFT_WEEKS = 10
_STAY_WEEKS = 3

_STANCES_ORDINARY = dict(zip(STANCES, (0.27, 0.08, 0.05, 0.16, 0.16, 0.28), strict=True))
_STANCES_OFFENDER = dict(zip(STANCES, (0.62, 0.13, 0.07, 0.03, 0.05, 0.10), strict=True))
_IMAGE_KINDS = dict(zip(pictures.KINDS, (0.34, 0.28, 0.12, 0.10, 0.16), strict=True))
_MEDIA = {"jpg": "image", "mp4": "video", "wav": "audio"}
_BOARDS = {"board:news": 0.3, "board:town": 0.25, "board:market": 0.2, "board:family": 0.15, "board:night": 0.1}


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
        sentences = [self._slip(sentence) if self.rng.random() < _PROB_TYPO else sentence]
        if self.rng.random() < _PROB_MORE:
            sentences.insert(self.rng.randrange(2), self.chatter())
        return opener + " ".join(sentences) + closer

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


_MADE: dict[str, Callable[[Writer], str]] = {
    "price": lambda writer: (
        f"{writer.rng.choice((9, 19, 49, 80, 120, 250, 400, 990)) + writer.rng.randrange(10)} {_CURRENCIES.get(writer.language, '€')}"
    ),
    "url": lambda writer: (  # .example is reserved (RFC 2606), so that no address leads anywhere
        writer.rng.choice(("glimmer", "quickbox", "sunnyday", "bestpick", "mooncart"))
        + writer.rng.choice(("-deals", "-win", "-pay", ""))
        + f".example/{writer.rng.randrange(4096):x}"
    ),
    "number": lambda writer: str(writer.rng.randint(2, 30)),
    "code": lambda writer: "".join(writer.rng.choices("ABCDEFGHKLMNPRSTUVWXYZ23456789", k=6)),
}


@cache
def _grammar(language: str) -> dict[str, Any]:
    text = resources.files("upheld.feature_store.sample_world").joinpath("texts", f"{language}.yaml").read_text(encoding="utf-8")
    grammar: dict[str, Any] = yaml.safe_load(text)
    return grammar


@dataclass(frozen=True)
class Week:
    """A week of the world.

    Attributes:
        seed: of the world.
        number: 1 is the world's first week; words and shares drift with it.
        monday: its first moment, UTC.
    """

    seed: int
    number: int
    monday: datetime


@dataclass(frozen=True)
class Posts:
    """What a week brings: posts in the delivery contract, their media (uri -> bytes), and the truth aside.

    `pictures` has one row a picture, columns `logos.PICTURES`: its size, and the mark on it, if there is one.
    `truth` has one row a post and policy: post_id, category, language (the true one), label (1 violates), hard (bool),
    stance (how the text meets the policy; `image` where only a picture, clip or sound does, `none` off topic).
    """

    posts: pd.DataFrame
    media: dict[str, bytes]
    truth: pd.DataFrame
    pictures: pd.DataFrame


def write(week: Week, settings: SampleData, num_posts: int) -> Posts:
    """Write a week's posts, in order of time, with media and truth. They depend on seed, number and settings, never on another week."""
    rng = stream(week.seed, "posts", week.number)
    posts, truth, marked = [], [], []
    contents: dict[str, bytes] = {}
    for number in range(num_posts):
        post_id = identifier("p", week.seed, week.number, number)
        writer = Writer(weighted(rng, _drifted(_LANGUAGE_WEIGHTS, week.number)), week.number, rng)
        author_id, region, offends = _author(week, settings, writer.language, number, rng)
        kind, media, picture = _image(week, settings, post_id, rng) if rng.random() < settings.share_images else (None, {}, {})
        stances: dict[str, str] = {}
        if kind and rng.random() < settings.share_captions:
            text, topic = writer.caption(), None
        else:
            text, topic = _text(writer, offends, stances)
        broken = {pictures.KINDS[kind]} if kind else set()
        if not kind:
            media, broken = _moving(week, settings, post_id)
        created_at = week.monday + timedelta(seconds=rng.randrange(7 * 24 * 3600), microseconds=rng.randrange(1_000_000))
        language = "und" if rng.random() < 0.02 else writer.language
        region_known = rng.random() >= 0.04
        # an offending post's hashtags give it away now and then; those of another post on the matter rarely mislead
        revealing = topic is not None and rng.random() < (0.3 if STANCES[stances[topic]] else 0.06)
        hashtags = writer.tags(topic if revealing else None) if rng.random() < 0.35 else []
        # a large board, a small thread of this week or, seldom, the one before, or none
        context, context_id = rng.random(), None
        if context < 0.55:
            context_id = weighted(rng, _BOARDS)
        else:
            started = max(week.number - int(rng.random() < 0.1), 1)
            if context < 0.8:
                context_id = f"thread:{writer.language}:{started:02d}-{rng.randrange(max(num_posts // 80, 1))}"
        if extra := planted(week.seed, week.number, post_id, settings.share_planted):
            other = Writer(writer.language, week.number, stream(week.seed, "planted text", post_id))
            text = other.sentence(JOINT_POLICY, "borderline") if extra.stance else other.caption()
            stances, broken = {JOINT_POLICY: extra.stance} if extra.stance else {}, set(extra.broken)
            media, picture = {f"media/week={week.number:02d}/{post_id}.jpg": extra.picture}, {}
            context_id, hashtags = extra.context_id or context_id, []
        contents |= media
        marked += [picture] if picture else []
        posts.append(
            {
                "post_id": post_id,
                "created_at": created_at,
                "language": language,
                "region": region if region_known else None,
                "text": text,
                "hashtags": hashtags,
                "media": [{"kind": _MEDIA[uri.rpartition(".")[2]], "uri": uri} for uri in media],
                "context_id": context_id,
                "author_id": author_id,
                "author_group": None,
            }
        )
        for policy in POLICIES:
            stance = stances.get(policy, "none")
            violates, shown = STANCES.get(stance, 0), policy in broken
            stance = "image" if shown and not violates else stance
            row = {"post_id": post_id, "category": policy, "language": writer.language, "label": violates or int(shown)}
            truth.append(row | {"hard": stance in HARD_STANCES, "stance": stance})
    frame = pd.DataFrame(posts).sort_values(["created_at", "post_id"], ignore_index=True)
    return Posts(frame, contents, pd.DataFrame(truth), pd.DataFrame(marked, columns=list(logos.PICTURES)))


def _text(writer: Writer, offends: bool, stances: dict[str, str]) -> tuple[str, str | None]:
    """A text and its topic; fills in which stance it takes towards which policy."""
    rng = writer.rng
    topic = weighted(rng, _drifted(_TOPIC_WEIGHTS, writer.week))
    if topic is None:
        return writer.dress(writer.chatter()), None
    stances[topic] = weighted(rng, _STANCES_OFFENDER if offends else _STANCES_ORDINARY)
    text = writer.dress(writer.sentence(topic, stances[topic]))
    if stances[topic] == "violating" and rng.random() < 0.08:
        second = rng.choice([policy for policy in POLICIES if policy != topic])
        stances[second] = "violating"
        text += " " + writer.sentence(second, "violating")
    return text, topic


def _author(week: Week, settings: SampleData, language: str, number: int, rng: random.Random) -> tuple[str | None, str, bool]:
    """Who posts: a regular (a few of them offend again and again), somebody seen once, or nobody known."""
    draw = rng.random()
    if draw < 0.5:
        # A regular's place in the list decides how much he writes: the k-th about as often as 1 / sqrt(k). After some weeks he leaves.
        place = int(settings.num_authors * rng.random() ** 2)
        name = (language, place, (week.number + place % _STAY_WEEKS) // _STAY_WEEKS)
        regular = stream(week.seed, "author", *name)
        return identifier("u", week.seed, *name), regular.choice(REGIONS[language]), regular.random() < settings.share_offenders
    author_id = identifier("u", week.seed, "once", week.number, number) if draw < 0.85 else None
    return author_id, rng.choice(REGIONS[language]), rng.random() < settings.share_offenders


def _image(week: Week, settings: SampleData, post_id: str, rng: random.Random) -> tuple[str, dict[str, bytes], dict[str, Any]]:
    """A new picture, or one of the few that go round this week and the next; and the mark on it."""
    again = rng.random() < 0.12
    name = ("again", max(week.number - rng.choice((0, 1)), 1), rng.randrange(6)) if again else ("new", post_id)
    drawn = stream(week.seed, "image", *name)
    kind = weighted(drawn, _IMAGE_KINDS)
    uri = f"media/week={week.number:02d}/{post_id}.jpg"
    content, shown = logos.marked(pictures.draw(kind, drawn), kind, settings.share_logos, week.seed, *name)
    return kind, {uri: content}, {"post_id": post_id, "media_uri": uri} | shown


def _moving(week: Week, settings: SampleData, post_id: str) -> tuple[dict[str, bytes], set[str | None]]:
    """A clip, a sound or, mostly, neither; and the policies that it breaks."""
    rng = stream(week.seed, "moving", post_id)  # of its own, so that the rest of the world is the same with and without
    if rng.random() >= settings.share_clips:
        return {}, set()
    heard = rng.choice(list(pictures.SOUNDS))
    samples = pictures.sound(heard, rng)
    name = f"media/week={week.number:02d}/{post_id}"
    if rng.random() < 0.6:
        return {f"{name}.wav": pictures.wav(samples)}, {pictures.SOUNDS[heard]}
    kind = weighted(rng, _IMAGE_KINDS)
    return {f"{name}.mp4": pictures.clip(kind, samples, rng)}, {pictures.SOUNDS[heard], pictures.KINDS[kind]}


def _drifted(weights: dict[Any, tuple[float, float]], number: int) -> dict[Any, float]:
    weeks = min(number - 1, _DRIFT_WEEKS)
    return {name: start + slope * weeks for name, (start, slope) in weights.items()}


def monday_of(iso_week: str) -> datetime:
    """First moment of an ISO week written like `2026-W43`, UTC.

    Raises:
        ValueError: no such week.
    """
    return datetime.strptime(f"{iso_week}-1", "%G-W%V-%u").replace(tzinfo=UTC)
