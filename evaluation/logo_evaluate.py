"""Evaluate logo detections against a logo dataset: certified confidence threshold, metrics, confusion, pictures.

usage: upheld logo evaluate DETECTIONS --dataset D --out D
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import typer

from evaluation import logo_matches, logo_metrics, logo_sheet, metrics, score_rows, scores, thresholds
from evaluation.metric_rows import ALL
from feature_store import atomic, logo_dataset, params
from feature_store.command import PARAMS_FILE, AsJson, Overrides, ParamsFile, StoreFolder, console, execute
from feature_store.errors import BadUse
from feature_store.logo_dataset import CORNERS, Dataset
from feature_store.logo_image import upright

DATASET, DETECTIONS, OUT = Path("data/logo"), Path("data/logo_detections.parquet"), Path("data/logo_evaluation")
TILES = 5  # of each kind in the sheet


@dataclass(frozen=True)
class Result:
    """The certificate of the confidence threshold, every metric, and who was taken for whom."""

    certificate: dict[str, Any]
    metrics: pd.DataFrame
    confusion: pd.DataFrame


def run(settings: params.Params, dataset: Path, detections: Path, out: Path, store: Path) -> Result:
    """Certify a threshold on split val, measure on split test, and write metrics.parquet, confusion.parquet, logo.json, sheet.jpg.

    Args:
        settings: read are seed, thresholds, fairness.alpha, ingest.max_media_pixels.
        dataset: a logo dataset.
        detections: image, brand, confidence, x1, y1, x2, y2 of the photos of splits val and test.
        out: folder to write; logo.json holds the certificate and the threshold that the metrics were taken at.
        store: the ledger's photos.

    Returns:
        what was written.

    Raises:
        BadUse: a file breaks its contract.
    """
    data = logo_dataset.read(dataset)
    finds = _read(detections, data)
    photos = data.images.rename(columns={"digest": "image"})
    marks = logo_metrics.boxes_of(data.boxes)
    decided = _certificate(settings, photos, marks, finds, data.synthetic, out)
    threshold = settings.thresholds.default_score if decided["threshold"] is None else float(decided["threshold"])
    test = photos[photos["split"] == "test"]
    of_test, found = (table[table["image"].isin(test["image"])].reset_index(drop=True) for table in (marks, finds))
    table = logo_metrics.compute(test, of_test, found, data.brands, threshold, settings.fairness.alpha, settings.seed)
    confused = logo_matches.confusion(of_test, logo_matches.match(of_test, found), threshold, data.brands)
    result = Result(decided, metrics.tidy(table), confused)
    _write(out, result, threshold, data)
    _draw(out, data, of_test, found, threshold, settings, store)
    return result


def _read(path: Path, data: Dataset) -> pd.DataFrame:
    wanted = ("image", "brand", "confidence", *CORNERS)
    try:
        table = pd.read_parquet(path)
    except (OSError, pa.ArrowException) as error:
        raise BadUse(f"{path}: not a readable table of detections ({error}); `upheld logo train` writes one") from error
    if missing := [name for name in wanted if name not in table]:
        raise BadUse(f"{path}: no column {missing[0]!r}; detections have {', '.join(wanted)}")
    if strangers := sorted(set(table["image"]) - set(data.images["digest"])):
        raise BadUse(f"{path}: column image: {strangers[0]!r} is no photo of the dataset ({len(strangers)} such)")
    return table[list(wanted)]


def _certificate(
    settings: params.Params, photos: pd.DataFrame, marks: pd.DataFrame, finds: pd.DataFrame, synthetic: bool, out: Path
) -> dict[str, Any]:
    """The certificate of policies, for the question "is this detection a mark of that brand"."""
    rows = logo_matches.scores(logo_matches.match(marks, finds), photos.set_index("image")["split"], synthetic)
    with atomic.replacing(out / "scores.parquet") as partial:
        pq.write_table(pa.Table.from_pandas(rows, preserve_index=False), partial)
    if not (rows["split"] == "calib").any():
        return {
            "threshold": None,
            "outcome": "abstained",
            "n": 0,
            "bound": None,
            "need_n": None,
            "reason": "no detection on a photo of split val",
        }
    selection = score_rows.select(out / "scores.parquet", scores.Columns(), (), wanted="calib", other="test")
    cubes, _ = score_rows.build_cubes(selection, (), None, settings.thresholds.frame_min_inclusion_prob)
    decided = thresholds.decide(cubes[None], settings.thresholds, incumbent=None, champion=None, seed=settings.seed)
    certificate: dict[str, Any] = decided[logo_matches.CATEGORY]["auto_remove"]
    return {name: value for name, value in certificate.items() if name != "languages"}


def _write(out: Path, result: Result, threshold: float, data: Dataset) -> None:
    for name, table in (("metrics", result.metrics), ("confusion", result.confusion.reset_index(names="mark"))):
        with atomic.replacing(out / f"{name}.parquet") as partial:
            table.to_parquet(partial, index=False)
    about = {"certificate": result.certificate, "threshold": threshold, "synthetic": data.synthetic, "counts": logo_dataset.counts(data)}
    atomic.write_json(out / "logo.json", about)


def _draw(
    out: Path, data: Dataset, marks: pd.DataFrame, finds: pd.DataFrame, threshold: float, settings: params.Params, store: Path
) -> None:
    tiles = logo_sheet.choose(marks, finds, threshold, TILES, settings.seed)
    if not tiles:
        return
    wanted = {tile.image for tile in tiles}
    photos = {name: upright(content, settings.ingest.max_media_pixels) for name, content in logo_dataset.contents(data, wanted, store)}
    with atomic.replacing(out / "sheet.jpg") as partial:
        logo_sheet.draw(tiles, photos).save(partial, "JPEG", quality=80)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of `run`. Returns the exit code."""
    here = Path(os.environ.get("UPHELD_STORE", "store"))

    def logo_evaluate(
        detections: Annotated[Path, typer.Argument(help="Table of detections.")] = DETECTIONS,
        dataset: Annotated[Path, typer.Option(help="Folder of the logo dataset that they are judged by.")] = DATASET,
        out: Annotated[Path, typer.Option(help="Folder for metrics, confusion, certificate and pictures.")] = OUT,
        params_file: ParamsFile = PARAMS_FILE,
        set_: Overrides = [],  # noqa: B006  (Typer reads the default)
        store: StoreFolder = here,
        as_json: AsJson = False,
    ) -> None:
        """Certify a confidence threshold, and measure the detector on the photos held out."""
        result = run(params.load(params_file, set_), dataset, detections, out, store)
        if as_json:
            print(json.dumps({"out": str(out), "certificate": result.certificate}))
        else:
            console().print(_told(result, out), markup=False, soft_wrap=True)

    return execute(logo_evaluate, "logo evaluate", argv)


def _told(result: Result, out: Path) -> str:
    pooled = result.metrics[result.metrics["group_column"] == ALL]
    lines = []
    columns = ["metric", "value", "ci_low", "ci_high", "reason"]
    for metric, value, low, high, reason in pooled[columns].itertuples(index=False, name=None):
        lines.append(f"{metric}: undefined ({reason})" if pd.isna(value) else f"{metric}: {value:.3f} [{low:.3f}, {high:.3f}]")
    return "\n".join([*lines, f"confidence threshold: {result.certificate['outcome']}", f"Wrote {out}"])


if __name__ == "__main__":
    raise SystemExit(main())
