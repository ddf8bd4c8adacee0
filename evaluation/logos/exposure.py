"""Count where brands were seen: appearances by brand, context and week, as a table for brand teams and for policy.

An appearance is a detection whose confidence reaches its brand's threshold. The table counts what the detector saw; the certificate of
the threshold says how much of that may be false.
"""

from collections.abc import Mapping

import pandas as pd

from upheld.feature_store.contracts.tables import week_of
from upheld.feature_store.logos.dataset.boxes import per_image

NO_CONTEXT = "none"  # of posts that were in no board, channel or thread
COLUMNS = [
    "brand",
    "context_id",
    "week",
    "num_posts",
    "num_posts_all",
    "post_share",
    "num_images",
    "num_detections",
    "max_confidence",
    "area_share",
    "area_share_shown",
]


def exposure(detections: pd.DataFrame, images: pd.DataFrame, posts: pd.DataFrame, thresholds: Mapping[str, float]) -> pd.DataFrame:
    """Count the appearances of each brand in each context and week.

    Args:
        detections: image, brand, confidence in [0, 1], x1, y1, x2, y2 in pixels.
        images: one row for each post and image on it: post_id, image, width, height in pixels. An image that several posts show is seen in
            each; one that a post shows twice is seen once.
        posts: post_id (unique), context_id (null: none), created_at (UTC).
        thresholds: brand -> confidence from which a detection counts; other brands do not appear.

    Returns:
        one row for each brand, context and ISO week of `created_at` with an appearance, in this order: brand, context_id, week
        ("2026-W43"), num_posts that show the brand, num_posts_all in that context and week (with images or without), post_share
        (the one over the other), num_images and num_detections that show it, max_confidence, area_share (mean share of an image that
        the brand covers, over all images of the context and week), area_share_shown (the same, over the images that show it).

    Raises:
        ValueError: a detection's image has no size, an image names a post that is not in `posts`, or post_id is not unique.
    """
    shown = images.drop_duplicates(["post_id", "image"])
    if posts["post_id"].duplicated().any():
        raise ValueError(f"post {posts.loc[posts['post_id'].duplicated(), 'post_id'].iloc[0]} occurs twice among the posts")
    week = week_of(pd.to_datetime(posts["created_at"], utc=True))
    cell = pd.DataFrame({"post_id": posts["post_id"], "context_id": posts["context_id"].fillna(NO_CONTEXT), "week": week})
    strange = sorted(set(shown["post_id"]) - set(cell["post_id"]))
    if strange:
        raise ValueError(f"post {strange[0]} of an image is not among the posts")
    sizes = shown.drop_duplicates("image")
    seen = per_image(detections, sizes, thresholds)
    placed = shown.merge(cell, on="post_id", validate="many_to_one")
    rows = placed[["post_id", "image", "context_id", "week"]].merge(seen, on="image", how="inner")
    grouped = rows.groupby(["brand", "context_id", "week"])
    table = grouped.agg(
        num_posts=("post_id", "nunique"),
        num_images=("image", "size"),
        num_detections=("num_detections", "sum"),
        max_confidence=("max_confidence", "max"),
        area=("area_share", "sum"),
    ).reset_index()
    for name, frame in (("num_posts_all", cell), ("num_images_all", placed)):
        table = table.merge(frame.groupby(["context_id", "week"]).size().rename(name).reset_index(), on=["context_id", "week"], how="left")
    table["post_share"] = table["num_posts"] / table["num_posts_all"]
    table["area_share"] = table["area"] / table["num_images_all"]
    table["area_share_shown"] = table["area"] / table["num_images"]
    return table.sort_values(["brand", "context_id", "week"], ignore_index=True)[COLUMNS]
