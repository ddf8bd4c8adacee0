"""Make a logo dataset of what reviewers said of detected logos. Photos stay in the ledger.

usage: upheld logo outcomes --out logos
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import pandas as pd
import typer
from rich.progress import track

from upheld.common.command import PARAM_OPTIONS, STORE_FOLDER, Output, ParamOptions, StoreFolder, command
from upheld.common.errors import FailedWork
from upheld.common.files import replacing, write_json
from upheld.common.params import params
from upheld.common.params.logos import LogoData
from upheld.common.terminal import console
from upheld.feature_store.ledger.ledger import Ledger
from upheld.feature_store.ledger.verdicts import standing
from upheld.feature_store.logos.dataset import dataset as logo_dataset
from upheld.feature_store.logos.dataset.boxes import MIN_OVERLAP, Rejected, judge_box, overlaps
from upheld.feature_store.logos.dataset.photos import Unreadable
from upheld.feature_store.logos.sources import grouping
from upheld.feature_store.logos.sources.inspection import inspect_photos
from upheld.feature_store.logos.sources.source import is_brand


class NoneUsable(FailedWork):
    """Of the outcomes not one can be used."""


@dataclass(frozen=True)
class Result:
    """The dataset that was written, and what became of every outcome."""

    dataset: logo_dataset.Dataset
    report: dict[str, Any]


def run(rules: LogoData, seed: int, store: Path, out: Path, versions: dict[str, int] | None = None) -> Result:
    """Write the outcomes on logo boxes as a dataset: what is confirmed or was missed are boxes, what is wrong are hard negatives.

    Args:
        rules: section `logo_data`.
        seed: of the splits; a photo keeps its split while outcomes come in.
        store: holds the ledger.
        out: folder to write; an earlier logo dataset there is replaced.
        versions: Lance versions of the tables logo_outcomes, posts and media; None takes the committed ones.

    Returns:
        the dataset and its report: rows = regions + merged + superseded + quarantined, these by reason.

    Raises:
        BadUse: there is no ledger, or `out` holds something else.
        NoneUsable: there is no outcome that can be used.
    """
    logo_dataset.refuse_others_folder(out)
    ledger, at = Ledger(store), versions or {}
    outcomes: pd.DataFrame = ledger.read("logo_outcomes", version=at.get("logo_outcomes")).to_pandas()
    rows = standing(outcomes, pd.Timestamp.max.tz_localize("UTC") if ledger.as_of is None else pd.Timestamp(ledger.as_of))
    rows, images = judged(ledger, rows, rules, at)
    regions = agreed(rows[rows["reason"].isna()])
    if regions["is_mark"].dropna().empty:
        why = rows["reason"].value_counts().to_dict() or "reviewers said nothing of logos yet"
        raise NoneUsable(f"{store}: of {len(outcomes)} logo outcomes none can be used: {why}")
    dataset = _dataset(regions, images, rules, seed, out, ledger.synthetic)
    report = _account(outcomes, rows, regions) | {"counts": logo_dataset.counts(dataset)}
    out.mkdir(parents=True, exist_ok=True)
    with replacing(out / "quarantine.parquet") as partial:
        refused = rows.loc[rows["reason"].notna(), ["outcome_id", "revision", "post_id", "media_uri", "reason", "detail"]]
        refused.to_parquet(partial, index=False)
    write_json(out / "report.json", report)
    logo_dataset.write(dataset)
    return Result(dataset, report)


def _dataset(regions: pd.DataFrame, images: pd.DataFrame, rules: LogoData, seed: int, out: Path, synthetic: bool) -> logo_dataset.Dataset:
    decided = regions.dropna(subset=["is_mark"])
    used = images[images["digest"].isin(decided["digest"])].reset_index(drop=True)
    used = used.assign(group_id=grouping.groups(used, rules.max_hash_distance))
    used["split"] = grouping.by_hash(used, rules.shares, f"{seed}/logo")
    marks = decided["is_mark"].astype(bool)
    return logo_dataset.assemble(out, decided["brand"], used, decided[marks], decided[~marks], synthetic)


def _account(outcomes: pd.DataFrame, rows: pd.DataFrame, regions: pd.DataFrame) -> dict[str, Any]:
    """Rows = regions + merged + superseded + quarantined."""
    tied = regions[regions["is_mark"].isna()]
    decided = regions[regions["is_mark"].notna()]
    reasons = {str(reason): int(times) for reason, times in rows["reason"].value_counts().sort_index().items()}
    if len(tied):
        reasons["reviewers_disagree"] = int(tied["num_outcomes"].sum())
    return {
        "rows": len(outcomes),
        "regions": len(decided),
        "merged": int(decided["num_outcomes"].sum()) - len(decided),
        "superseded": len(outcomes) - len(rows),
        "quarantined": sum(reasons.values()),
        "by_reason": reasons,
    }


@command("logo outcomes")
def main(
    out: Annotated[Path, typer.Option(help="Folder to write; an earlier logo dataset there is replaced.")],
    asked: ParamOptions = PARAM_OPTIONS,
    store: StoreFolder = STORE_FOLDER,
) -> Output:
    """Make a logo dataset of what reviewers said of detected logos. Photos stay in the ledger."""
    given = params.load(*asked, store)
    report = run(given.logo_data, given.seed, store, out).report
    why = ", ".join(f"{reason} {times}" for reason, times in report["by_reason"].items())
    said = f"{report['rows']} outcomes = {report['regions']} regions + {report['merged']} merged + {report['superseded']} superseded"
    return Output(report, f"{said} + {report['quarantined']} quarantined" + (f" ({why})" if why else "") + f"; in {out}")


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
    for name, found in track(inspect_photos(given, rules), "photos", total=len(digests), console=console(), transient=True):
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
    columns = pd.DataFrame(judged, columns=["reason", "detail", *logo_dataset.CORNERS], index=rows.index)
    return rows.drop(columns=list(logo_dataset.CORNERS)).join(columns.astype({"reason": object, "detail": object}))


def _judge(row: Any, sizes: dict[str, tuple[int, int]], broken: Broken, rules: LogoData) -> Any:
    if not isinstance(row.digest, str):
        return Rejected("media_unknown", f"post {row.post_id} has no image {row.media_uri!r}")
    if row.digest not in sizes:
        return broken.get(row.digest, Rejected("media_missing", "the ledger holds no bytes of this image"))
    if not is_brand(row.brand):
        return Rejected("brand_name", f"{row.brand[:80]!r}: expected printable characters")
    return judge_box((row.x1, row.y1, row.x2, row.y2), *sizes[row.digest], rules)


POSITIVE: Final = ("confirmed", "missed")  # a mark is there; `wrong`: the detector saw this brand where it is not


def agreed(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Outcomes on one region put together: the majority says whether the mark is there, a tie says nothing.

    Args:
        outcomes: latest revisions: digest, brand, x1, y1, x2, y2, verdict (confirmed, wrong, missed), reviewed_at, outcome_id.

    Returns:
        digest, brand, x1, y1, x2, y2 (medians of those who were of the majority), is_mark (bool; null at a tie), num_outcomes.
    """
    ordered = outcomes.sort_values(["digest", "brand", "reviewed_at", "outcome_id"])
    regions = [
        {"digest": digest, "brand": brand} | _verdict(region)
        for (digest, brand), rows in ordered.groupby(["digest", "brand"])
        for region in _regions(rows)
    ]
    return pd.DataFrame(regions, columns=["digest", "brand", *logo_dataset.CORNERS, "is_mark", "num_outcomes"])


def _regions(rows: pd.DataFrame) -> Iterator[list[Any]]:
    """Outcomes of one photo and brand, those together whose boxes agree with the first of them."""
    regions: list[list[Any]] = []
    for row in rows.itertuples():
        alike = overlaps([_box(region[0]) for region in regions], [_box(row)])[:, 0] >= MIN_OVERLAP
        if alike.any():
            regions[alike.argmax()].append(row)
        else:
            regions.append([row])
    yield from regions


def _box(row: Any) -> tuple[float, float, float, float]:
    return row.x1, row.y1, row.x2, row.y2


def _verdict(region: list[Any]) -> dict[str, Any]:
    marks = [row for row in region if row.verdict in POSITIVE]
    others = [row for row in region if row.verdict not in POSITIVE]
    majority = marks if len(marks) > len(others) else others
    corners = np.median([_box(row) for row in majority or region], axis=0).tolist()
    is_mark = None if len(marks) == len(others) else len(marks) > len(others)
    return dict(zip(logo_dataset.CORNERS, corners, strict=True)) | {"is_mark": is_mark, "num_outcomes": len(region)}
