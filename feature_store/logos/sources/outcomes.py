"""Make a logo dataset of what reviewers said of detected logos. Photos stay in the ledger.

usage: upheld logo outcomes --out logos
"""

from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import pandas as pd
import typer

from upheld.common.command import PARAM_OPTIONS, STORE_FOLDER, Output, ParamOptions, StoreFolder, command
from upheld.common.errors import FailedWork
from upheld.common.files import write_json, write_parquet
from upheld.common.params import params
from upheld.common.params.logos import LogoData
from upheld.common.progress import track
from upheld.feature_store.decoding.contract import Refused
from upheld.feature_store.ledger.ledger import Ledger
from upheld.feature_store.ledger.verdicts import standing
from upheld.feature_store.logos.dataset import dataset as logo_dataset
from upheld.feature_store.logos.dataset.boxes import MIN_OVERLAP, Rejected, judge_box, overlaps
from upheld.feature_store.logos.dataset.dataset import Result
from upheld.feature_store.logos.sources import grouping
from upheld.feature_store.logos.sources.inspection import inspect_photos
from upheld.feature_store.logos.sources.source import is_brand
from upheld.feature_store.splits.near_pictures import near_pictures

POSITIVE: Final = ("confirmed", "missed")  # a mark is there; `wrong`: the detector saw this brand where it is not


class NoneUsable(FailedWork):
    """Of the outcomes not one can be used."""


def run(rules: LogoData, seed: int, store: Path, out: Path, versions: dict[str, int] | None = None) -> Result:
    """Write the outcomes on logo boxes as a dataset: what is confirmed or was missed are boxes, what is wrong are hard negatives.

    Args:
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
    decided, tied = regions[regions["is_mark"].notna()], regions[regions["is_mark"].isna()]
    used = images[images["digest"].isin(decided["digest"])].reset_index(drop=True)
    used = used.assign(group_id=near_pictures(used, rules.max_hash_distance))
    used["split"] = grouping.by_hash(used, rules.shares, f"{seed}/logo")
    marks = decided["is_mark"].astype(bool)
    dataset = logo_dataset.assemble(out, decided["brand"], used, decided[marks], decided[~marks], ledger.synthetic)
    reasons = {str(reason): int(times) for reason, times in rows["reason"].value_counts().sort_index().items()}
    if len(tied):
        reasons["reviewers_disagree"] = int(tied["num_outcomes"].sum())
    report = {
        "rows": len(outcomes),
        "regions": len(decided),
        "merged": int(decided["num_outcomes"].sum()) - len(decided),
        "superseded": len(outcomes) - len(rows),
        "quarantined": sum(reasons.values()),
        "by_reason": reasons,
        "counts": logo_dataset.counts(dataset),
    }
    refused = rows.loc[rows["reason"].notna(), ["outcome_id", "revision", "post_id", "media_uri", "reason", "detail"]]
    write_parquet(out / "quarantine.parquet", refused)
    write_json(out / "report.json", report)
    logo_dataset.write(dataset)
    return Result(dataset, report)


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
    sums = f"{report['rows']} outcomes = {report['regions']} regions + {report['merged']} merged + {report['superseded']} superseded"
    return Output(report, f"{sums} + {report['quarantined']} quarantined" + (f" ({why})" if why else "") + f"; in {out}")


def judged(ledger: Ledger, outcomes: pd.DataFrame, rules: LogoData, at: dict[str, int]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Judge outcomes.

    Args:
        ledger: holds posts and media.
        outcomes: columns of the ledger's logo_outcomes.
        at: Lance versions of posts and media; a table without one is read as committed.

    Returns:
        the outcomes with the photo's digest, their box inside the photo, and reason and detail, null where they can be used; and the photos
        that decode (digest, file, width, height, pdq, source).
    """
    rows = outcomes.reset_index(drop=True)
    wanted = set(rows["post_id"])
    known = {
        (post["post_id"], media["uri"]): media["digest"]
        for post in ledger.read("posts", ["post_id", "media"], version=at.get("posts")).to_pylist()
        if post["post_id"] in wanted
        for media in post["media"] or []
        if media["kind"] == "image"
    }
    of_row = [known.get(key) for key in zip(rows["post_id"], rows["media_uri"], strict=True)]  # None: its post has no image of that name
    rows["digest"] = pd.Series(of_row, index=rows.index, dtype=object)
    digests = sorted(set(rows["digest"].dropna()))
    photos: list[tuple[Any, ...]] = []
    sizes: dict[str, tuple[int, int]] = {}
    broken: dict[str, Refused] = {}
    contents = ((digest, content) for digest, content in ledger.media_bytes(digests, at.get("media")))
    for digest, seen in track(inspect_photos(contents, rules), "photos", len(digests)):
        if isinstance(seen, Refused):
            broken[digest] = seen
        else:
            photos.append((digest, None, seen.width, seen.height, seen.pdq, "outcome"))
            sizes[digest] = (seen.width, seen.height)
    judgements = []
    outcome: Any
    for outcome in rows.itertuples():
        found: Any  # the box inside its photo, or why the outcome cannot be used
        if not isinstance(outcome.digest, str):
            found = Refused("media_unknown", f"post {outcome.post_id} has no image {outcome.media_uri!r}")
        elif outcome.digest not in sizes:
            found = broken.get(outcome.digest, Refused("media_missing", "the ledger holds no bytes of this image"))
        elif not is_brand(outcome.brand):
            found = Refused("brand_name", f"{outcome.brand[:80]!r}: expected printable characters")
        else:
            found = judge_box((outcome.x1, outcome.y1, outcome.x2, outcome.y2), *sizes[outcome.digest], rules)
        refused = isinstance(found, Rejected | Refused)
        judgements.append((found.reason, found.detail, outcome.x1, outcome.y1, outcome.x2, outcome.y2) if refused else (None, None, *found))
    columns = pd.DataFrame(judgements, columns=["reason", "detail", *logo_dataset.CORNERS], index=rows.index)
    rows = rows.drop(columns=list(logo_dataset.CORNERS)).join(columns.astype({"reason": object, "detail": object}))
    return rows, pd.DataFrame(photos, columns=["digest", "file", "width", "height", "pdq", "source"])


def agreed(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Outcomes on one region put together: the majority says whether the mark is there, a tie says nothing.

    Args:
        outcomes: latest revisions: digest, brand, x1, y1, x2, y2, verdict (confirmed, wrong, missed), reviewed_at, outcome_id.

    Returns:
        digest, brand, x1, y1, x2, y2 (medians of those who were of the majority), is_mark (bool; null at a tie), num_outcomes.
    """
    ordered = outcomes.sort_values(["digest", "brand", "reviewed_at", "outcome_id"])
    found = []
    for (digest, brand), rows in ordered.groupby(["digest", "brand"]):
        regions: list[list[Any]] = []  # outcomes whose boxes agree with the first of them
        for row in rows.itertuples():
            alike = overlaps([_box(region[0]) for region in regions], [_box(row)])[:, 0] >= MIN_OVERLAP
            if alike.any():
                regions[alike.argmax()].append(row)
            else:
                regions.append([row])
        for region in regions:
            marks = [row for row in region if row.verdict in POSITIVE]
            others = [row for row in region if row.verdict not in POSITIVE]
            majority = marks if len(marks) > len(others) else others
            corners = np.median([_box(row) for row in majority or region], axis=0).tolist()
            is_mark = None if len(marks) == len(others) else len(marks) > len(others)
            found.append((digest, brand, *corners, is_mark, len(region)))
    return pd.DataFrame(found, columns=["digest", "brand", *logo_dataset.CORNERS, "is_mark", "num_outcomes"])


def _box(row: Any) -> tuple[float, float, float, float]:
    return row.x1, row.y1, row.x2, row.y2
