"""Make a logo dataset of a YOLO, COCO or Pascal VOC dataset. Photos stay where they are.

usage: upheld logo import FOLDER --format yolo --out logos
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import pandas as pd
import typer
from rich.progress import track

from upheld.common.command import PARAM_OPTIONS, Output, ParamOptions, command
from upheld.common.errors import FailedWork
from upheld.common.files import replacing, write_json
from upheld.common.params import params
from upheld.common.params.logos import LogoData
from upheld.common.terminal import console
from upheld.feature_store.logos.dataset import dataset as logo_dataset
from upheld.feature_store.logos.sources import coco, grouping, voc, yolo
from upheld.feature_store.logos.sources.accept import Accepted, accept

Format = Literal["yolo", "coco", "voc"]
_READERS: Final = {"yolo": yolo.read, "coco": coco.read, "voc": voc.read}


@dataclass(frozen=True)
class Result:
    """The dataset that was written, and what became of every photo and box."""

    dataset: logo_dataset.Dataset
    report: dict[str, Any]


def run(rules: LogoData, seed: int, folder: Path, layout: Format, out: Path) -> Result:
    """Import a dataset. Writes, besides the dataset's tables, quarantine.parquet and report.json.

    Args:
        rules: section `logo_data`.
        seed: of the splits, where the dataset brings none.
        folder: of the dataset.
        layout: how it is laid out.
        out: folder to write; an earlier logo dataset there is replaced.

    Returns:
        the dataset and its report.

    Raises:
        BadUse: `folder` is no dataset of that layout, or `out` holds something else.
        FailedWork: not one photo can be taken.
    """
    logo_dataset.refuse_others_folder(out)
    source = _READERS[layout](folder)
    taken = accept(source, rules, lambda photos: track(photos, "photos", total=len(source.photos), console=console(), transient=True))
    if taken.images.empty:
        found = ", ".join(f"{reason} {times}" for reason, times in taken.account["photos"]["by_reason"].items()) or "there is none"
        raise FailedWork(f"{folder}: no photo can be taken: {found}")
    images, moved = _placed(taken, rules, seed)
    dataset = logo_dataset.assemble(out, source.brands, images, taken.boxes, taken.boxes.iloc[:0], synthetic=False)
    report = taken.account | {"format": layout, "folder": str(folder), **moved, "counts": logo_dataset.counts(dataset)}
    out.mkdir(parents=True, exist_ok=True)
    with replacing(out / "quarantine.parquet") as partial:
        taken.quarantine.astype(str).to_parquet(partial, index=False)
    write_json(out / "report.json", report)
    logo_dataset.write(dataset)
    return Result(dataset, report)


def _placed(taken: Accepted, rules: LogoData, seed: int) -> tuple[pd.DataFrame, dict[str, int]]:
    """Photos with their group and split, and how many of them had to move because a copy is held out."""
    images = taken.images.assign(group_id=grouping.groups(taken.images, rules.max_hash_distance))
    account = {"near_duplicate": len(images) - images["group_id"].nunique()}
    if images["split"].isna().all():
        return images.assign(split=grouping.spread(images, taken.boxes, rules.shares, f"{seed}/logo")), account | {"moved": 0}
    given = images["split"].fillna("train")  # those that no list of the dataset names
    split = grouping.held_out_first(images.assign(split=given))
    return images.assign(split=split), account | {"moved": int((split != given).sum()), "in_no_list": int(images["split"].isna().sum())}


@command("logo import")
def main(
    folder: Annotated[Path, typer.Argument(help="The dataset.", exists=True, file_okay=False)],
    layout: Annotated[Format, typer.Option("--format", help="How it is laid out.")],
    out: Annotated[Path, typer.Option(help="Folder to write; an earlier logo dataset there is replaced.")],
    asked: ParamOptions = PARAM_OPTIONS,
) -> Output:
    """Make a logo dataset of a YOLO, COCO or Pascal VOC dataset. Photos stay where they are."""
    given = params.load(*asked)
    report = run(given.logo_data, given.seed, folder, layout, out).report
    return Output(report, _summary(report, out))


def _summary(report: dict[str, Any], out: Path) -> str:
    lines = []
    for kind in ("photos", "boxes"):
        row = report[kind]
        why = ", ".join(f"{reason} {times}" for reason, times in row["by_reason"].items())
        said = f"{kind}: {row['rows']} = {row['accepted']} accepted + {row['duplicate']} duplicate + {row['quarantined']} quarantined"
        lines.append(said + (f" ({why})" if why else ""))
    of_split = ", ".join(f"{split} {row['photos']}" for split, row in report["counts"]["splits"].items())
    lines.append(f"{of_split} photos; {report['photos_without_logos']} without logos; {report['moved']} moved to the split of a copy")
    return "\n".join([*lines, f"in {out}; what was refused and why: {out / 'quarantine.parquet'}"])
