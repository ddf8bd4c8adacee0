"""Make a logo dataset of what reviewers said of detected logos. Photos stay in the ledger.

usage: upheld logo outcomes --out logos
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from upheld.common.command import PARAM_OPTIONS, STORE_FOLDER, Output, ParamOptions, StoreFolder, command
from upheld.common.errors import FailedWork
from upheld.common.files import replacing, write_json
from upheld.common.params import params
from upheld.common.params.logos import LogoData
from upheld.feature_store.ledger.ledger import Ledger
from upheld.feature_store.ledger.verdicts import standing
from upheld.feature_store.logos.dataset import dataset as logo_dataset
from upheld.feature_store.logos.sources import grouping
from upheld.feature_store.logos.sources.outcome_rows import judged
from upheld.feature_store.logos.sources.verdicts import agreed


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
