"""A toy model of texts, an n-gram classifier that has learned which words offend, and posts of both kinds."""

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from upheld.training.ngrams.model import vectoriser_of

PLAIN = [
    "garden",
    "river",
    "morning",
    "window",
    "coffee",
    "letter",
    "market",
    "yellow",
    "travel",
    "kitchen",
    "summer",
    "walking",
    "bridge",
    "picture",
]
OFFENDING = ["vermin", "filthy", "traitor", "disgusting", "parasite", "coward", "worthless", "pathetic"]


def sentence(random: np.random.Generator, offends: bool) -> str:
    words = [*random.choice(PLAIN, 6), random.choice(OFFENDING if offends else PLAIN)]
    return " ".join(random.permutation(words))


@pytest.fixture(scope="session")
def toy() -> SimpleNamespace:
    """`texts` that all offend, their `names`, `score` of the rows and texts asked, and `calls`, how many texts each call asked for."""
    random = np.random.default_rng(11)
    label = np.arange(600) % 3 == 0
    vectoriser = vectoriser_of((2, 4), None)
    features = vectoriser.fit_transform([sentence(random, offends) for offends in label])
    model = LogisticRegression(C=10).fit(features, label)
    calls: list[int] = []

    def score(rows: Sequence[int], texts: Sequence[str]) -> np.ndarray:
        calls.append(len(texts))
        return model.predict_proba(vectoriser.transform(texts))[:, 1].astype(np.float32) if texts else np.empty(0, np.float32)

    texts = [sentence(random, True) for _ in range(60)]
    return SimpleNamespace(texts=texts, names=[f"p{number}" for number in range(60)], score=score, calls=calls)
