"""Outcomes on logos one by one: which photo each is about, whether its box lies on it, and why it cannot be used."""

from typing import Any

import pandas as pd
from rich.progress import track

from upheld.common.params.logos import LogoData
from upheld.common.terminal import console
from upheld.feature_store.ledger.ledger import Ledger
from upheld.feature_store.logos.dataset.checks import Rejected, judge_box
from upheld.feature_store.logos.dataset.dataset import CORNERS
from upheld.feature_store.logos.dataset.photos import Unreadable
from upheld.feature_store.logos.sources.inspection import look
from upheld.feature_store.logos.sources.source import is_brand

Broken = dict[str, Unreadable]  # digest of a photo -> why it cannot be used


def judged(ledger: Ledger, outcomes: pd.DataFrame, rules: LogoData, at: dict[str, int]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Judge outcomes.

    Args:
        ledger: holds posts and media.
        outcomes: columns of the ledger's logo_outcomes.
        rules: section `logo_data`.
        at: Lance versions of posts and media; a table without one is read as committed.

    Returns:
        the outcomes with the photo's digest, their box inside the photo, and reason and detail, null where they can be used; and the photos
        that decode (digest, file, width, height, pdq, source).
    """
    rows = outcomes.reset_index(drop=True)
    rows["digest"] = _digests(ledger, rows, at.get("posts"))
    images, broken = _images(ledger, sorted(set(rows["digest"].dropna())), rules, at.get("media"))
    return _judged(rows, images, broken, rules), images


def _digests(ledger: Ledger, rows: pd.DataFrame, version: int | None) -> "pd.Series[str]":
    """Digest of the image that each outcome is about, null where its post has none of that name."""
    posts = ledger.read("posts", ["post_id", "media"], version=version).to_pylist()
    wanted = set(rows["post_id"])
    known = {
        (post["post_id"], media["uri"]): media["digest"]
        for post in posts
        if post["post_id"] in wanted
        for media in post["media"] or []
        if media["kind"] == "image"
    }
    found = [known.get(key) for key in zip(rows["post_id"], rows["media_uri"], strict=True)]
    return pd.Series(found, index=rows.index, dtype=object)


def _images(ledger: Ledger, digests: list[str], rules: LogoData, version: int | None) -> tuple[pd.DataFrame, Broken]:
    """Photos that decode, and why others do not."""
    rows, broken = [], {}
    given = ((name, content) for name, content in ledger.media_bytes(digests, version))
    for name, found in track(look(given, rules), "photos", total=len(digests), console=console(), transient=True):
        if isinstance(found, Unreadable):
            broken[name] = found
        else:
            rows.append((name, None, found.width, found.height, found.pdq, "outcome"))
    return pd.DataFrame(rows, columns=["digest", "file", "width", "height", "pdq", "source"]), broken


def _judged(rows: pd.DataFrame, images: pd.DataFrame, broken: Broken, rules: LogoData) -> pd.DataFrame:
    """Outcomes with their boxes inside the photo, or with a reason and a detail."""
    sizes: dict[str, tuple[int, int]] = {row["digest"]: (row["width"], row["height"]) for row in images.to_dict("records")}
    judged = []
    for row in rows.itertuples():
        found: Any = _judge(row, sizes, broken, rules)
        refused = isinstance(found, Rejected | Unreadable)
        judged.append((None, None, *found) if not refused else (found.reason, found.detail, row.x1, row.y1, row.x2, row.y2))
    columns = pd.DataFrame(judged, columns=["reason", "detail", *CORNERS], index=rows.index)
    return rows.drop(columns=list(CORNERS)).join(columns.astype({"reason": object, "detail": object}))


def _judge(row: Any, sizes: dict[str, tuple[int, int]], broken: Broken, rules: LogoData) -> Any:
    if not isinstance(row.digest, str):
        return Rejected("media_unknown", f"post {row.post_id} has no image {row.media_uri!r}")
    if row.digest not in sizes:
        return broken.get(row.digest, Rejected("media_missing", "the ledger holds no bytes of this image"))
    if not is_brand(row.brand):
        return Rejected("brand_name", f"{row.brand[:80]!r}: expected printable characters")
    return judge_box((row.x1, row.y1, row.x2, row.y2), *sizes[row.digest], rules)
