"""Stage 1 applied: both classifiers over a table of posts, null where a modality is missing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training.image_model import ImageModel, load_image, predict_image
from training.progress import Report, silent
from training.text_model import TextModel, load_text, predict_text

Array = NDArray[np.float32]
FetchImages = Callable[[Sequence[str]], Mapping[str, bytes]]  # digests of accepted images -> the bytes of each


@dataclass(frozen=True)
class Stage1:
    """The two classifiers; `image` is None where no image had been reviewed when it should have been trained."""

    text: TextModel
    image: ImageModel | None


def load(text: Path, image: Path) -> Stage1:
    """Load both classifiers from their folders, ready to predict on the best device here."""
    return Stage1(load_text(text), load_image(image))


def predict(
    models: Stage1,
    posts: pd.DataFrame,
    policies: Sequence[str],
    fetch_images: FetchImages,
    batch_size: int,
    chunk_size: int,
    report: Report = silent,
) -> pd.DataFrame:
    """Probability of violation per post, policy and modality.

    Args:
        models: the classifiers.
        posts: post_id, text (str or null), image_digests (list of str; empty or null: no image).
        policies: which probabilities to give; one that a classifier does not know is null.
        fetch_images: gives the bytes of images by digest; asked for the images of `batch_size` posts at a time.
        batch_size: posts in one forward pass.
        chunk_size: posts between two calls of `report`; texts of like length are batched within a chunk.
        report: is told how many posts have been done since its last call.

    Returns:
        post_id, has_text, has_image (bool), prob_text_{policy} and prob_image_{policy} (float32 in [0, 1], null where the
        modality is missing), in the order of `posts`.
    """
    starts = range(0, max(len(posts), 1), chunk_size)
    chunks = [posts.iloc[start : start + chunk_size] for start in starts]
    parts = []
    for chunk in chunks:
        text, has_text = _of_texts(models.text, chunk["text"].fillna("").tolist(), batch_size)
        image, has_image = _of_images(models.image, [list(_listed(images)) for images in chunk["image_digests"]], fetch_images, batch_size)
        columns = {"post_id": chunk["post_id"].to_numpy(), "has_text": has_text, "has_image": has_image}
        columns |= _named("text", text, models.text.setup.policies, policies)
        parts.append(pd.DataFrame(columns | _named("image", image, models.image.setup.policies if models.image else (), policies)))
        report(len(chunk))
    return pd.concat(parts, ignore_index=True)


def _listed(images: Sequence[str] | None) -> Sequence[str]:
    return [] if images is None else images


def _of_texts(model: TextModel, texts: list[str], batch_size: int) -> tuple[Array, NDArray[np.bool_]]:
    has_text = np.array([bool(text.strip()) for text in texts], bool)
    probs = np.full((len(texts), len(model.setup.policies)), np.nan, np.float32)
    if has_text.any():
        probs[has_text] = predict_text(model, [text for text in texts if text.strip()], batch_size)
    return probs, has_text


def _of_images(model: ImageModel | None, posts: list[list[str]], fetch: FetchImages, batch_size: int) -> tuple[Array, NDArray[np.bool_]]:
    has_image = np.array([bool(digests) for digests in posts], bool)
    if model is None:
        return np.empty((len(posts), 0), np.float32), has_image
    probs = np.full((len(posts), len(model.setup.policies)), np.nan, np.float32)
    shown = np.flatnonzero(has_image)
    for start in range(0, len(shown), batch_size):
        rows = shown[start : start + batch_size]
        wanted = [posts[row] for row in rows]
        content = fetch(sorted({digest for digests in wanted for digest in digests}))
        probs[rows] = predict_image(model, wanted, content.__getitem__, batch_size)
    return probs, has_image


def _named(modality: str, probs: Array, known: Sequence[str], policies: Sequence[str]) -> dict[str, Array]:
    """Columns by policy name, so that a classifier's order never matters; NaN for a policy that it does not know."""
    unknown = np.full(len(probs), np.nan, np.float32)
    by_policy = {policy: probs[:, column] for column, policy in enumerate(known)}
    return {f"prob_{modality}_{policy}": by_policy.get(policy, unknown) for policy in policies}
