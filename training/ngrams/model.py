"""Logistic regressions on TF-IDF of character n-grams: a second opinion on texts that is learned in seconds and knows every spelling.

Saved as numbers and strings, never as a pickle.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from scipy.sparse import csr_matrix
from scipy.special import expit
from sklearn.feature_extraction.text import TfidfVectorizer

from upheld.common.errors import FailedWork
from upheld.common.files import write_json
from upheld.training.loop import tensor_file

Array = NDArray[np.float32]
MIN_TEXTS = 2  # an n-gram of one text tells nothing of another


@dataclass(frozen=True)
class NgramSetup:
    """Which probabilities the model gives, in their order, and the shortest and longest n-gram in characters."""

    policies: tuple[str, ...]
    ngram_range: tuple[int, int]


@dataclass(frozen=True)
class NgramModel:
    """`coefficients` float32 (C, V), `intercepts` float32 (C,); the vectoriser knows V n-grams within words."""

    setup: NgramSetup
    vectoriser: TfidfVectorizer
    coefficients: Array
    intercepts: Array


def vectoriser_of(ngram_range: tuple[int, int], max_features: int | None, vocabulary: Sequence[str] | None = None) -> TfidfVectorizer:
    """A vectoriser of n-grams within words; one that is to be fitted drops what only one text has."""
    return TfidfVectorizer(
        analyzer="char_wb",
        ngram_range=ngram_range,
        min_df=1 if vocabulary is not None else MIN_TEXTS,
        max_features=max_features,
        vocabulary=vocabulary,
        sublinear_tf=True,
        dtype=np.float32,
    )


def save_ngrams(model: NgramModel, folder: Path, metadata: dict[str, Any]) -> None:
    """Write a model into an existing folder: upheld.safetensors, vocabulary.json, metadata.json."""
    tensors = {"coefficients": model.coefficients, "intercepts": model.intercepts, "idf": model.vectoriser.idf_.astype(np.float32)}
    save_file(tensors, folder / tensor_file.NAME)
    write_json(folder / "vocabulary.json", model.vectoriser.get_feature_names_out().tolist())
    write_json(folder / "metadata.json", {**metadata, "trained": True, "setup": asdict(model.setup)})


def load_ngrams(folder: Path) -> NgramModel | None:
    """Load a model that `save_ngrams` wrote; None where there was nothing to learn from.

    Raises:
        FailedWork: the folder is not such a model, or a file of it is damaged.
    """
    try:
        metadata = json.loads((folder / "metadata.json").read_text(encoding="utf-8"))
        if not metadata["trained"]:
            return None
        setup = NgramSetup(tuple(metadata["setup"]["policies"]), tuple(metadata["setup"]["ngram_range"]))
        vocabulary = json.loads((folder / "vocabulary.json").read_text(encoding="utf-8"))
        tensors = load_file(tensor_file.saved(folder))
        vectoriser = vectoriser_of(setup.ngram_range, None, vocabulary)
        vectoriser.idf_ = tensors["idf"]
        if tensors["coefficients"].shape != (len(setup.policies), len(vocabulary)):
            raise ValueError("coefficients do not fit the vocabulary")
    except Exception as error:  # safetensors raises a type of its own
        raise FailedWork(f"{folder}: not a readable n-gram model ({error}); run the stage ngrams again") from error
    return NgramModel(setup, vectoriser, tensors["coefficients"], tensors["intercepts"])


def predict_ngrams(model: NgramModel, texts: Sequence[str]) -> Array:
    """Probability of violation of each policy for each text, float32 (N, C) in [0, 1], columns in the order of `model.setup.policies`."""
    return probabilities(model, model.vectoriser.transform(texts))


def probabilities(model: NgramModel, features: csr_matrix) -> Array:
    """As `predict_ngrams`, of texts that have been vectorised."""
    logits = features @ model.coefficients.T + model.intercepts
    probs: Array = expit(logits).astype(np.float32)
    return probs
