"""Stage 1 applied to a table of posts: the classifiers, null where a modality is missing, and what the marks on pictures say to fusion."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from upheld.common.errors import FailedWork
from upheld.common.progress import Report, silent
from upheld.feature_store.features.media import Spectrogram
from upheld.feature_store.logos.dataset.boxes import per_image
from upheld.training.audio.model import AudioModel, load_audio, predict_audio
from upheld.training.fusion.model import LOGO
from upheld.training.image.model import ImageModel, batches, load_image, predict_image
from upheld.training.loop.head import NONE_KNOWN
from upheld.training.ngrams.model import NgramModel, load_ngrams, predict_ngrams
from upheld.training.text.model import TextModel, load_text, predict_text

Array = NDArray[np.float32]
LANE = "lane_text"  # in the metadata of a score table
FetchImages = Callable[[Sequence[str]], Mapping[str, bytes]]  # digests of pictures -> the bytes of each
FetchSounds = Callable[[Sequence[str]], Mapping[str, Spectrogram]]  # digests of sounds -> the spectrogram of each
FetchVectors = Callable[[TextModel, Sequence[str]], Mapping[str, Array]]  # a classifier and texts -> `known` of `predict_text`


@dataclass(frozen=True)
class Media:
    """Where the pictures and sounds of posts come from, by digest, and the vectors of texts that need no computing."""

    images: FetchImages
    sounds: FetchSounds
    vectors: FetchVectors = lambda model, texts: NONE_KNOWN


NO_MEDIA = Media(lambda names: {}, lambda names: {})  # of posts that are nothing but text


@dataclass(frozen=True)
class Stage1:
    """The classifiers; each is None where fusion leaves it out of every policy. `image` and `audio` are None, too, where none of their kind
    had been reviewed when they should have been trained, `ngrams` in bundles from before there was one."""

    text: TextModel | None
    ngrams: NgramModel | None
    image: ImageModel | None
    audio: AudioModel | None


def load(text: Path | None, ngrams: Path | None, image: Path | None, audio: Path | None) -> Stage1:
    """Load the classifiers from their folders, ready to predict on the best device here; those without a folder are not asked."""
    return Stage1(
        load_text(text) if text else None,
        load_ngrams(ngrams) if ngrams else None,
        load_image(image) if image else None,
        load_audio(audio) if audio else None,
    )


def lanes_of(models: Stage1) -> dict[str, str]:
    """Lanes that the classifiers compute in, for the metadata of a score table: `lane_text`, where there is a text classifier."""
    return {} if models.text is None else {LANE: models.text.lane}


def predict(
    models: Stage1,
    posts: pd.DataFrame,
    policies: Sequence[str],
    media: Media,
    batch_size: int,
    chunk_size: int,
    report: Report = silent,
) -> pd.DataFrame:
    """Probability of violation per post, policy and member of stage 1.

    Args:
        models: the classifiers.
        posts: post_id, text (str or null), image_digests and audio_digests (list of str; empty or null: none), num_frames (int, how
            many of image_digests, the last ones, are frames of videos). Posts that are nothing but text may lack the last two columns.
        policies: which probabilities to give; one that a classifier does not know is null.
        media: gives pictures and sounds by digest; asked for those of one batch at a time. Its vectors of texts spare the encoder.
        batch_size: texts, pictures or posts with sound in one forward pass.
        chunk_size: posts between two calls of `report`; texts of like length are batched within a chunk.
        report: is told how many posts have been done since its last call.

    Returns:
        post_id, has_text, has_image, has_audio (bool), prob_text_{policy}, prob_ngrams_{policy}, prob_image_{policy} and
        prob_audio_{policy} (float32 in [0, 1], null where the modality is missing), in the order of `posts`.
    """
    starts = range(0, max(len(posts), 1), chunk_size)
    parts = []
    for chunk in (posts.iloc[start : start + chunk_size] for start in starts):
        texts = chunk["text"].fillna("").tolist()
        has_text = np.array([bool(text.strip()) for text in texts], bool)
        of_texts = np.full((len(texts), len(models.text.setup.policies) if models.text else 0), np.nan, np.float32)
        of_ngrams = np.full((len(texts), len(models.ngrams.setup.policies) if models.ngrams else 0), np.nan, np.float32)
        if has_text.any():
            said = [text for text in texts if text.strip()]
            if models.text:
                of_texts[has_text] = predict_text(models.text, said, batch_size, media.vectors(models.text, said))
            if models.ngrams:
                of_ngrams[has_text] = predict_ngrams(models.ngrams, said)
        images, sounds = listed(chunk, "image_digests"), listed(chunk, "audio_digests")
        num_frames = chunk["num_frames"].tolist() if "num_frames" in chunk else [0] * len(chunk)
        columns = {"post_id": chunk["post_id"].to_numpy(), "has_text": has_text, "has_image": _any(images), "has_audio": _any(sounds)}
        columns |= _named("text", of_texts, models.text, policies)
        columns |= _named("ngrams", of_ngrams, models.ngrams, policies)
        columns |= _named("image", _of_media(models.image, images, media.images, num_frames, batch_size), models.image, policies)
        columns |= _named("audio", _of_media(models.audio, sounds, media.sounds, num_frames, batch_size), models.audio, policies)
        parts.append(pd.DataFrame(columns))
        report(len(chunk))
    return pd.concat(parts, ignore_index=True)


def listed(posts: pd.DataFrame, column: str) -> list[list[str]]:
    """Digests of each post's media of a kind; none where the column, or what it should hold, is missing."""
    if column not in posts:
        return [[] for _ in range(len(posts))]
    return [[] if names is None else list(names) for names in posts[column]]


def _any(lists: list[list[str]]) -> NDArray[np.bool_]:
    return np.array([bool(names) for names in lists], bool)


def _of_media(
    model: ImageModel | AudioModel | None, posts: list[list[str]], fetch: FetchImages | FetchSounds, num_frames: list[int], batch_size: int
) -> Array:
    """Probabilities by the posts' pictures or sounds, as many of them in memory as one batch of the model has."""
    if model is None:
        return np.empty((len(posts), 0), np.float32)
    probs = np.full((len(posts), len(model.setup.policies)), np.nan, np.float32)
    there = [row for row, names in enumerate(posts) if names]
    for part in batches([len(posts[row]) if isinstance(model, ImageModel) else 1 for row in there], batch_size):
        rows = [there[place] for place in part]
        wanted = [posts[row] for row in rows]
        content: Mapping[str, Any] = fetch(sorted({name for names in wanted for name in names}))
        if isinstance(model, ImageModel):
            probs[rows] = predict_image(model, wanted, content.__getitem__, [num_frames[row] for row in rows], batch_size)
        else:
            probs[rows] = predict_audio(model, wanted, content.__getitem__, batch_size)
    return probs


def _named(
    member: str, probs: Array, model: TextModel | NgramModel | ImageModel | AudioModel | None, policies: Sequence[str]
) -> dict[str, Array]:
    """Columns by policy name, so that a classifier's order never matters; NaN for a policy that it does not know."""
    unknown = np.full(len(probs), np.nan, np.float32)
    by_policy = {policy: probs[:, column] for column, policy in enumerate(model.setup.policies if model else ())}
    return {f"prob_{member}_{policy}": by_policy.get(policy, unknown) for policy in policies}


# Over a post's pictures marks add up; the surest counts, and the most covered picture: a mark that fills one of ten fills it.
_OF_POST = dict(zip(LOGO, (("num_detections", "sum"), ("max_confidence", "max"), ("area_share", "max")), strict=True))


def logo_signals(
    posts: pd.DataFrame, detections: pd.DataFrame, sizes: pd.DataFrame, brands: Sequence[str], threshold: float | None
) -> pd.DataFrame:
    """Sum up the logo detections that count, by post and brand.

    Args:
        posts: post_id (unique), image_digests (list of str; empty or null: none). A picture that a post shows twice counts once.
        detections: image (a digest), brand, confidence in [0, 1], x1, y1, x2, y2 in pixels.
        sizes: image (unique), width, height in pixels; every image of `detections` is in it.
        brands: that the detector knows.
        threshold: confidence from which a detection counts; None: none does.

    Returns:
        post_id, and of each brand logo_count_{brand} (int64), logo_confidence_{brand} (float64 in [0, 1]) and logo_area_{brand}
        (float64 in [0, 1], share of a picture), all 0 where none was found; in the order of `posts`. Nothing but post_id without brands.
    """
    seen = per_image(detections, sizes, {} if threshold is None else dict.fromkeys(brands, threshold))
    shown = posts[["post_id", "image_digests"]].explode("image_digests").dropna().rename(columns={"image_digests": "image"})
    found = shown.drop_duplicates().astype("str").merge(seen.astype({"image": "str"}), on="image")
    per_post = found.groupby(["brand", "post_id"]).agg(**_OF_POST)
    columns = {}
    for brand in brands:
        of_brand = per_post.xs(brand) if brand in per_post.index.get_level_values("brand") else per_post.droplevel("brand").iloc[:0]
        for name, kind in zip(LOGO, ("int64", "float64", "float64"), strict=True):
            columns[f"{name}_{brand}"] = of_brand[name].reindex(posts["post_id"]).fillna(0).to_numpy(kind)
    return pd.DataFrame({"post_id": posts["post_id"].to_numpy(), **columns})


def read_logo_threshold(path: Path) -> float | None:
    """The confidence from which a detection counts, out of the logo.json that the stage logo_evaluate writes; None where it has none.

    Raises:
        FailedWork: the file is missing or malformed.
    """
    try:
        threshold = json.loads(path.read_text(encoding="utf-8"))["threshold"]
        return None if threshold is None else float(threshold)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FailedWork(f"{path}: not readable ({error}); run the stage logo_evaluate again") from error
