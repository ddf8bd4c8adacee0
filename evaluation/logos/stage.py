"""Stage `logo_evaluate`: how good the logo detector is on photos held out, from which confidence it is believed, and where it saw brands.

usage: python -m upheld.evaluation.logos.stage     in a workspace that holds data/logo and data/logo_detections.parquet
       upheld logo evaluate DETECTIONS --dataset D --out D
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import typer

from upheld.common import files
from upheld.common.command import PARAM_OPTIONS, STORE_FOLDER, Output, ParamOptions, StoreFolder, command
from upheld.common.errors import BadUse
from upheld.common.params import params
from upheld.common.params.evaluation import Thresholds
from upheld.common.terminal import console
from upheld.evaluation.logos import matches, sheet
from upheld.evaluation.logos import metrics as logo_metrics
from upheld.evaluation.logos.exposure import exposure
from upheld.evaluation.logos.sheet import Tile
from upheld.evaluation.metrics import table as metrics
from upheld.evaluation.metrics.rows import ALL
from upheld.evaluation.scores import selection as score_rows
from upheld.evaluation.scores.table import Columns
from upheld.evaluation.thresholds import both_thresholds
from upheld.feature_store.contracts.snapshot import POSTS_FILE
from upheld.feature_store.contracts.workspace import LOGO_DATASET, LOGO_DETECTIONS, LOGO_EVALUATION, LOGO_SCAN, SNAPSHOT
from upheld.feature_store.logos.dataset import dataset as logo_dataset
from upheld.feature_store.logos.dataset.dataset import CORNERS, Dataset
from upheld.feature_store.logos.dataset.photos import upright

TILES = 5  # of each kind in the sheet
DETECTIONS = ("image", "brand", "confidence", *CORNERS)


@dataclass(frozen=True)
class Inputs:
    """What is judged, and by what.

    dataset: a logo dataset.
    detections: image, brand, confidence, x1, y1, x2, y2 of its photos of splits val and test.
    scan: folder with detections.parquet (the same columns, image: digest of an image on a post) and images.parquet (image, width, height).
    snapshot: folder with posts.parquet (post_id, context_id, created_at, image_digests). Exposure is counted where both are named.
    """

    dataset: Path
    detections: Path
    scan: Path | None = None
    snapshot: Path | None = None


@dataclass(frozen=True)
class Result:
    """What was found out; `untrained` says why there is no detector where there is none, and the tables are empty then.

    certificate: of the confidence threshold.
    threshold: at which the metrics were taken.
    metrics: every metric.
    confusion: who was taken for whom.
    tiles: of the sheet.
    one_shot: brands known from composites alone.
    """

    untrained: str | None
    certificate: dict[str, Any]
    threshold: float
    metrics: pd.DataFrame
    confusion: pd.DataFrame
    tiles: tuple[Tile, ...] = ()
    one_shot: tuple[str, ...] = ()


def run(settings: params.Params, inputs: Inputs, out: Path, store: Path) -> Result:
    """Certify a threshold on split val, measure on split test, and count appearances on the snapshot's posts.

    Args:
        settings: read are seed, thresholds, fairness.alpha, logo_data.max_pixels.
        inputs: the files. A dataset without anything to learn from, and no detection, gives the same files without rows.
        out: folder to write: metrics.parquet, confusion.parquet, scores.parquet, exposure.parquet (where there are a scan and a snapshot),
            sheet.jpg (where there is something to show), and logo.json with the certificate and the threshold.
        store: the ledger's photos.

    Raises:
        BadUse: a file breaks its contract.
        FailedWork: a photo of the sheet is gone.
    """
    data = logo_dataset.read(inputs.dataset)
    finds = read_detections(inputs.detections, data)
    (out / "sheet.jpg").unlink(missing_ok=True)
    result = _judge(settings, data, finds, out)
    tables = {"metrics": result.metrics, "confusion": result.confusion}
    if inputs.scan is not None and inputs.snapshot is not None:
        tables["exposure"] = read_exposure(inputs.scan, inputs.snapshot, data.brands, result.threshold)
    for name, table in tables.items():
        files.write_parquet(out / f"{name}.parquet", table)
    if result.tiles:
        contents = logo_dataset.contents(data, {tile.image for tile in result.tiles}, store)
        photos = {name: upright(content, settings.logo_data.max_pixels) for name, content in contents}
        with files.replacing(out / "sheet.jpg") as partial:
            sheet.draw(result.tiles, photos).save(partial, "JPEG", quality=80)
    summary = {
        "certificate": result.certificate,
        "threshold": result.threshold,
        "untrained": result.untrained,
        "synthetic": data.synthetic,
        "one_shot": result.one_shot,
        "tiles": [{"kind": tile.kind, "caption": tile.caption} for tile in result.tiles],
        "counts": logo_dataset.counts(data),
    }
    files.write_json(out / "logo.json", summary)  # last: where it is, everything is
    return result


def read_detections(path: Path, data: Dataset) -> pd.DataFrame:
    """Detections on photos of a dataset.

    Raises:
        BadUse: the table cannot be read, lacks a column, or names a photo that is not in the dataset.
    """
    table = _detections(path, "`upheld logo train` writes one")
    if strangers := sorted(set(table["image"]) - set(data.images["digest"])):
        raise BadUse(f"{path}: column image: {strangers[0]!r} is no photo of the dataset ({len(strangers)} such)")
    return table


def read_exposure(scan: Path, snapshot: Path, brands: Sequence[str], threshold: float) -> pd.DataFrame:
    """Appearances of the brands on the posts of a snapshot, in the columns of `exposure.COLUMNS`.

    Args:
        scan: see Inputs; an image of a post that is not in it was not looked at, and is not counted as an image.
        snapshot: see Inputs.
        brands: that the detector knows.
        threshold: confidence from which a detection counts.

    Raises:
        BadUse: a table cannot be read or lacks a column, or a detection's image has no size.
    """
    found = _detections(scan / "detections.parquet", "the stage logo_scan writes it")
    sizes = _read(scan / "images.parquet", ("image", "width", "height"), "the stage logo_scan writes it")
    posts = _read(snapshot / POSTS_FILE, ("post_id", "context_id", "created_at", "image_digests"), "the stage snapshot writes it")
    shown = posts[["post_id", "image_digests"]].explode("image_digests").rename(columns={"image_digests": "image"}).dropna()
    images = shown.astype({"image": "str"}).merge(sizes.astype({"image": "str"}), on="image", validate="many_to_one")
    if strangers := sorted(set(found["image"]) - set(sizes["image"])):
        raise BadUse(f"{scan / 'detections.parquet'}: column image: {strangers[0]!r} is not in images.parquet ({len(strangers)} such)")
    return exposure(found[found["image"].isin(images["image"])], images, posts, dict.fromkeys(brands, threshold))


def _detections(path: Path, source: str) -> pd.DataFrame:
    table = _read(path, DETECTIONS, source)
    try:
        return table.astype({"image": "str", "brand": "str", **dict.fromkeys(("confidence", *CORNERS), "float64")})
    except (TypeError, ValueError) as error:
        raise BadUse(f"{path}: {error}; confidence and corners are numbers; {source}") from error


def _read(path: Path, wanted: Sequence[str], source: str) -> pd.DataFrame:
    try:
        table = pd.read_parquet(path)
    except (OSError, pa.ArrowException) as error:
        raise BadUse(f"{path}: not a readable table ({error}); {source}") from error
    if missing := [name for name in wanted if name not in table]:
        raise BadUse(f"{path}: no column {missing[0]!r}; expected {', '.join(wanted)}; {source}")
    return table[list(wanted)]


def _judge(settings: params.Params, data: Dataset, finds: pd.DataFrame, out: Path) -> Result:
    photos = data.images.rename(columns={"digest": "image"})
    marks = logo_metrics.boxes_of(data.boxes)
    untrained = None  # or why there is no detector: it had no box to learn from, and found nothing; another dataset's detections are judged
    if not len(finds) and not (data.boxes["split"] == "train").any():
        nothing_learned = "nothing to learn from: no logo dataset, no mark and no review of a logo"
        untrained = nothing_learned if data.images.empty else f"no box of split train among {len(data.images)} photos"
    decided = certify(settings, photos, marks, finds, data.synthetic, out / "scores.parquet")
    threshold = settings.thresholds.default_score if decided["threshold"] is None else float(decided["threshold"])
    if untrained:
        nothing = matches.confusion(marks.iloc[:0], matches.match(marks.iloc[:0], finds), threshold)
        decided = abstained(settings.thresholds, untrained)
        return Result(untrained, decided, threshold, metrics.tidy(logo_metrics.table_of([])), nothing)
    test = photos[photos["split"] == "test"]
    of_test, found = (table[table["image"].isin(test["image"])].reset_index(drop=True) for table in (marks, finds))
    one_shot, alpha, seed = logo_metrics.one_shot_brands(data.boxes), settings.fairness.alpha, settings.seed
    table = logo_metrics.compute(test, of_test, found, data.brands, threshold, alpha, seed)
    beside = logo_metrics.one_shot(test, of_test, found, one_shot, alpha, seed)
    confused = matches.confusion(of_test, matches.match(of_test, found), threshold)
    tiles = tuple(sheet.choose(of_test, found, threshold, TILES, seed))
    measured = metrics.tidy(pd.concat([table, beside] if one_shot else [table], ignore_index=True))
    return Result(None, decided, threshold, measured, confused, tiles, one_shot)


def certify(
    settings: params.Params, photos: pd.DataFrame, marks: pd.DataFrame, finds: pd.DataFrame, synthetic: bool, table: Path
) -> dict[str, Any]:
    """The certificate of policies, for the question "is this detection a mark of that brand", answered on split val.

    Args:
        settings: read are thresholds and seed.
        photos: image, split.
        marks: image, brand, x1, y1, x2, y2.
        finds: the same and confidence.
        synthetic: whether the photos come from a generator of ours.
        table: where to write the detections in the scores contract.

    Returns:
        threshold (None: abstained), outcome, target, delta, bound, n, need_n, reason and what else `both_thresholds.decide` tells.
    """
    rows = matches.scores(matches.match(marks, finds), photos.set_index("image")["split"], synthetic)
    with files.replacing(table) as partial:
        pq.write_table(pa.Table.from_pandas(rows, preserve_index=False), partial)
    if not (rows["split"] == "calib").any():
        return abstained(settings.thresholds, "no detection on a photo of split val")
    selection = score_rows.select(table, Columns(), (), wanted="calib", other="test")
    cubes, _ = score_rows.build_cubes(selection, (), None, settings.thresholds.frame_min_inclusion_prob)
    decided = both_thresholds.decide(cubes[None], settings.thresholds, incumbent=None, champion=None, seed=settings.seed)
    certificate: dict[str, Any] = decided[matches.CATEGORY]["auto_remove"]
    return {name: value for name, value in certificate.items() if name != "languages"}


def abstained(section: Thresholds, reason: str) -> dict[str, Any]:
    """The certificate where there is nothing to judge by."""
    nothing = {"threshold": None, "outcome": "abstained", "n": 0, "bound": None, "need_n": None}
    return {**nothing, "target": section.precision_target, "delta": section.delta, "reason": reason}


@command("logo evaluate")
def main(
    detections: Annotated[Path | None, typer.Argument(help="Table of detections; without it the stage's own files.")] = None,
    dataset: Annotated[Path, typer.Option(help="Folder of the logo dataset that they are judged by.")] = LOGO_DATASET,
    scan: Annotated[Path | None, typer.Option(help="Folder with the detections on posts' images; with --snapshot.")] = None,
    snapshot: Annotated[Path | None, typer.Option(help="Folder with the posts; with both, exposure.parquet is written.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for metrics, confusion, certificate, exposure and pictures.")] = LOGO_EVALUATION,
    asked: ParamOptions = PARAM_OPTIONS,
    store: StoreFolder = STORE_FOLDER,
) -> Output:
    """Certify a confidence threshold, and measure the detector on the photos held out."""
    if (scan is None) != (snapshot is None):
        raise BadUse("--scan and --snapshot go together: exposure needs the detections and the posts that they are on")
    inputs = (
        Inputs(LOGO_DATASET, LOGO_DETECTIONS, LOGO_SCAN, SNAPSHOT) if detections is None else Inputs(dataset, detections, scan, snapshot)
    )
    result = run(params.load(*asked), inputs, out, store)
    content = {"out": str(out), "certificate": result.certificate}
    lines = [f"No detector: {result.untrained}"] if result.untrained else []
    pooled = result.metrics.loc[result.metrics["group_column"] == ALL, ["metric", "value", "ci_low", "ci_high", "reason"]]
    for metric, value, low, high, reason in pooled.itertuples(index=False, name=None):
        lines.append(f"{metric}: undefined ({reason})" if pd.isna(value) else f"{metric}: {value:.3f} [{low:.3f}, {high:.3f}]")
    text = "\n".join([*lines, f"confidence threshold: {result.certificate['outcome']}", f"Wrote {out}"])
    return Output(content, lambda: console().print(text, markup=False, soft_wrap=True))


if __name__ == "__main__":
    sys.exit(main())
