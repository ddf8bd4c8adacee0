"""Brand marks of the sample world: on its posts' pictures, with what its reviewers say of the boxes that its own detector drew; and as a
logo dataset of generated pictures with exact boxes, which stands in for labelled photos in demos and tests.
"""

import functools
import io
import random
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from PIL import Image

from upheld.common.files import replacing
from upheld.common.params.logos import LogoCompose
from upheld.common.params.params import Params
from upheld.common.progress import track
from upheld.feature_store.contracts import hashing
from upheld.feature_store.contracts.tables import LOGO_OUTCOMES
from upheld.feature_store.logos.composites.marks import OURS, Mark, load
from upheld.feature_store.logos.composites.paste import compose
from upheld.feature_store.logos.dataset import dataset as logo_dataset
from upheld.feature_store.logos.dataset.photos import pdq
from upheld.feature_store.logos.sources import grouping
from upheld.feature_store.sample_world import pictures
from upheld.feature_store.sample_world.base import identifier, stream, weighted
from upheld.feature_store.splits.near_pictures import near_pictures

PICTURES: Final = ("post_id", "media_uri", "width", "height", "brand", "x1", "y1", "x2", "y2")
# The world's own look, whatever composites for training look like: one whole mark, large enough for these small pictures.
_LOOK: Final = LogoCompose(
    max_side_px=160,
    min_side_px=12.0,
    max_marks=1,
    empty_share=0.0,
    distractor_share=0.0,
    mark_share=(0.3, 0.5),
    rotation_deg=6.0,
    perspective=0.05,
    recolour_share=0.3,
    plate_share=0.5,
    min_contrast=0.25,
    occluded_share=0.0,
    cropped_share=0.0,
    min_visible_share=0.9,
    max_blur_px=0.5,
    shaken_share=0.0,
    max_grain=0.01,
    jpeg_quality=(80, 90),
)
# No source, as for all that people do in this world.
_BANNERS = 2.0  # how much more often an offer shows a brand
_PROB_FOUND, _PROB_CONFUSED, _PROB_FALSE_ALARM = 0.7, 0.1, 0.3  # of its detector, a reviewed picture
_PROB_SECOND, _PROB_ERROR, _PROB_CORRECTED = 0.2, 0.05, 0.5  # of its reviewers
_HAND_PX = 1.5  # standard deviation of a corner
_HOURS = (1.0, 60.0)
SIDE_PX: Final = 320  # longer side of a picture
MARK_SHARE: Final = (0.15, 0.6)  # of a picture's shorter side: on small pictures smaller marks show nothing of their shape
_KINDS: Final = ("scene", "sunset", "sign")


def marked(content: bytes, kind: str, share: float, seed: int, *name: object) -> tuple[bytes, dict[str, Any]]:
    """A picture of the world as it is posted: with a brand's mark, or as it was drawn.

    Args:
        content: the JPEG file.
        kind: of the picture.
        share: of pictures with a mark; of banners it is twice as large.
        seed: of the world.
        name: of the picture; the same picture has the same mark wherever it is posted.

    Returns:
        the JPEG file, and what is true of it: width, height, and brand, x1, y1, x2, y2, null where there is no mark.
    """
    rng = stream(seed, "mark", *name)
    with Image.open(io.BytesIO(content), formats=["JPEG"]) as image:
        truth: dict[str, Any] = dict.fromkeys(PICTURES[2:]) | {"width": image.width, "height": image.height}
        if rng.random() >= share * (_BANNERS if kind == "banner" else 1.0):
            return content, truth
        mark = weighted(rng, {place: 1 / (place + 1) for place in range(len(_marks()))})  # few brands are seen often
        made = compose(image.convert("RGB"), [], [_marks()[mark]], np.random.default_rng(rng.getrandbits(64)), _LOOK)
    if not made.boxes:
        return content, truth
    return made.jpeg, truth | {"brand": made.brands[0]} | dict(zip(PICTURES[5:], made.boxes[0], strict=True))


@functools.cache
def _marks() -> list[Mark]:
    return load(OURS)[0]


def reviewed(posts: pd.DataFrame, pictures: pd.DataFrame, share: float, reviewers: pd.DataFrame, seed: int) -> pd.DataFrame:
    """What reviewers say of logos on a week's pictures, whenever they say it.

    Args:
        posts: post_id, created_at.
        pictures: columns PICTURES.
        share: of pictures that somebody looks at.
        reviewers: as `reviewers.staff` returns them.
        seed: of the world.

    Returns:
        logo outcomes in the delivery contract, in order of time: confirmed and missed marks, wrong boxes, second opinions and corrections.
    """
    created = posts.set_index("post_id")["created_at"]
    people = reviewers.loc[reviewers["role"] == "reviewer", "reviewer_id"].tolist()
    rows: list[dict[str, Any]] = []
    for picture in pictures.to_dict("records"):
        rng = stream(seed, "logo outcome", picture["post_id"])
        if rng.random() >= share:
            continue
        verdicts: list[dict[str, Any]] = []
        true_box = [picture[corner] for corner in PICTURES[5:]]
        others = [mark.brand for mark in _marks() if mark.brand != picture["brand"]]
        if isinstance(picture["brand"], str):
            right = "confirmed" if rng.random() < _PROB_FOUND else "missed"
            verdicts += _opinions(right, picture["brand"], true_box, picture, people, rng)
            if rng.random() < _PROB_CONFUSED:
                verdicts += _opinions("wrong", rng.choice(others), true_box, picture, people, rng)
        elif rng.random() < _PROB_FALSE_ALARM:
            side = rng.uniform(0.25, 0.5) * min(picture["width"], picture["height"])
            left, top = rng.uniform(0, picture["width"] - side), rng.uniform(0, picture["height"] - side)
            verdicts += _opinions("wrong", rng.choice(others), [left, top, left + side, top + side], picture, people, rng)
        for number, verdict in enumerate(verdicts):
            place = number - verdict["revision"]  # a correction follows what it corrects, and goes by its id
            outcome_id = identifier("l", seed, "logo", picture["post_id"], place)
            reviewed_at = created[picture["post_id"]] + timedelta(hours=verdict.pop("after_h"))
            of_picture = {"post_id": picture["post_id"], "media_uri": picture["media_uri"]}
            rows.append(verdict | of_picture | {"outcome_id": outcome_id, "reviewed_at": reviewed_at})
    frame = pd.DataFrame(rows, columns=LOGO_OUTCOMES.names)
    frame["reviewed_at"] = pd.to_datetime(frame["reviewed_at"], utc=True)
    return frame.sort_values(["reviewed_at", "outcome_id", "revision"], ignore_index=True)


def _opinions(
    right: str, brand: str, box: list[float], picture: Mapping[Any, Any], people: list[str], rng: random.Random
) -> Iterator[dict[str, Any]]:
    """One or two reviewers on one box. A wrong verdict may be corrected in a later revision."""
    for reviewer in rng.sample(people, 2 if rng.random() < _PROB_SECOND else 1):
        limits = (picture["width"], picture["height"]) * 2
        drawn = [min(max(corner + rng.gauss(0, _HAND_PX), 0.0), float(limit)) for corner, limit in zip(box, limits, strict=True)]
        errs = right != "missed" and rng.random() < _PROB_ERROR
        verdict = {"confirmed": "wrong", "wrong": "confirmed"}[right] if errs else right
        opinion: dict[str, Any] = {
            "brand": brand,
            "verdict": verdict,
            "reviewer_id": reviewer,
            "revision": 0,
            "after_h": rng.uniform(*_HOURS),
        }
        opinion |= dict(zip(PICTURES[5:], drawn, strict=True))
        yield opinion
        if errs and rng.random() < _PROB_CORRECTED:
            yield opinion | {"verdict": right, "revision": 1, "after_h": opinion["after_h"] + rng.uniform(1, 20)}


def make_dataset(out: Path, num_photos: int, given: Params, seed: int) -> logo_dataset.Dataset:
    """Make `num_photos` pictures, most of them with one to three marks of our brands, and write them as a logo dataset.

    Args:
        out: folder to write; an earlier logo dataset there is replaced.
        num_photos: at least 1; 200 are made in some seconds.
        given: sections `logo_compose` (how marks are pasted) and `logo_data` (splits).
        seed: picture i depends on the seed and i alone.

    Returns:
        the dataset; it says that it is synthetic.

    Raises:
        BadUse: `out` holds something else.
    """
    logo_dataset.refuse_others_folder(out)
    marks, _ = load(OURS)
    settings = given.logo_compose.model_copy(update={"mark_share": MARK_SHARE})
    rows: list[dict[str, Any]] = []
    boxes: list[tuple[Any, ...]] = []
    for number in track(range(num_photos), "logo world"):
        rng = np.random.default_rng([seed, number])
        background = _background(seed, number, rng)
        empty = rng.random() < settings.empty_share
        wanted = [] if empty else rng.choice(len(marks), int(rng.integers(1, settings.max_marks + 1)), replace=False).tolist()
        made = compose(background, [], [marks[place] for place in wanted], rng, settings)
        file = f"images/{number:05d}.jpg"
        with replacing(out / file) as partial:
            partial.write_bytes(made.jpeg)
        name = hashing.of_bytes(made.jpeg)
        rows.append({"digest": name, "file": file, "width": made.width, "height": made.height, "pdq": pdq(background)})
        boxes += [(name, brand, *box) for brand, box in zip(made.brands, made.boxes, strict=True)]
    images = pd.DataFrame(rows).assign(source="import").drop_duplicates("digest", ignore_index=True)
    drawn = pd.DataFrame(boxes, columns=["digest", "brand", *logo_dataset.CORNERS])
    images["group_id"] = near_pictures(images, given.logo_data.max_hash_distance)
    images["split"] = grouping.spread(images, drawn, given.logo_data.shares, f"{seed}/logo")
    dataset = logo_dataset.assemble(out, {mark.brand for mark in marks}, images, drawn, drawn.iloc[:0], synthetic=True)
    logo_dataset.write(dataset)
    return dataset


def _background(seed: int, number: int, rng: np.random.Generator) -> Image.Image:
    """A picture of the sample world, enlarged, under an uneven texture: without it every picture would be flat and clean."""
    drawn = pictures.draw(_KINDS[number % len(_KINDS)], stream(seed, "logo", number))
    with Image.open(io.BytesIO(drawn), formats=["JPEG"]) as small:
        scale = SIDE_PX / max(small.size)
        picture = small.convert("RGB").resize((round(small.width * scale), round(small.height * scale)), Image.Resampling.BICUBIC)
    texture = np.zeros((picture.height, picture.width), dtype=np.float32)
    for cells in (6, 24):
        coarse = Image.fromarray(rng.normal(0, 14, (cells, cells)).astype(np.float32))
        texture += np.asarray(coarse.resize(picture.size, Image.Resampling.BICUBIC))
    return Image.fromarray(np.clip(np.asarray(picture) + texture[..., None], 0, 255).astype(np.uint8))
