"""What the marks on a post's pictures say to fusion: for each brand how many, how sure the surest is, how much of a picture they cover."""

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from upheld.common.errors import FailedWork
from upheld.feature_store.logos.dataset.boxes import per_image
from upheld.training.fusion.model import LOGO

# Over a post's pictures marks add up; the surest counts, and the most covered picture: a mark that fills one of ten fills it.
_OF_POST = dict(zip(LOGO, (("num_detections", "sum"), ("max_confidence", "max"), ("area_share", "max")), strict=True))


def of_posts(
    posts: pd.DataFrame, detections: pd.DataFrame, sizes: pd.DataFrame, brands: Sequence[str], threshold: float | None
) -> pd.DataFrame:
    """Sum up the detections that count, by post and brand.

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


def read_threshold(path: Path) -> float | None:
    """The confidence from which a detection counts, out of the logo.json that the stage logo_evaluate writes; None where it has none.

    Raises:
        FailedWork: the file is missing or malformed.
    """
    try:
        threshold = json.loads(path.read_text(encoding="utf-8"))["threshold"]
        return None if threshold is None else float(threshold)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FailedWork(f"{path}: not readable ({error}); run the stage logo_evaluate again") from error
