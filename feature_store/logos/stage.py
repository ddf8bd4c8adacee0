"""Stage `logo_data`: everything that the logo detector learns from, as one logo dataset.

usage: python -m upheld.feature_store.logos.stage     in a workspace that holds data/inputs.json
"""

import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from upheld.common.command import PARAM_OPTIONS, STORE_FOLDER, Output, ParamOptions, StoreFolder, command
from upheld.common.files import replacing_folder, write_json
from upheld.common.params import params as parameters
from upheld.feature_store.contracts.workspace import INPUTS, LOGO_DATASET, LOGO_DATASET_REPORT, Inputs, read_inputs
from upheld.feature_store.ledger.ledger import Ledger
from upheld.feature_store.logos import store as logo_store
from upheld.feature_store.logos.composites import retrain
from upheld.feature_store.logos.dataset import dataset as logo_dataset
from upheld.feature_store.logos.dataset.dataset import Dataset, Result
from upheld.feature_store.logos.sources import grouping
from upheld.feature_store.logos.sources import outcomes as logo_outcomes
from upheld.feature_store.logos.sources.outcomes import NoneUsable


def run(params: parameters.Params, inputs: Path, store: Path, out: Path, about: Path) -> Result:
    """Put together what reviewers said of logos, the store's logo datasets, and composites of the store's marks.

    Args:
        params: sections logo_data and logo_compose; seed.
        inputs: data/inputs.json; says which versions of the ledger's tables, and which datasets and marks are meant.
        store: folder with the ledger, `logos/`, `marks/`, and the composites of a run that was killed.
        out: folder of the dataset to write, whole or not at all: the same content gives the same bytes, so that a run with nothing new
            about logos trains no detector. Without anything to learn from it has no brand and no photo.
        about: folder to write: report.json, and quarantine.parquet with the outcomes that cannot be used.

    Returns:
        the dataset and its report.

    Raises:
        BadUse: `inputs` is missing or malformed, or names a table version that the ledger does not have.
        FailedWork: a dataset or the marks changed since they were pinned, a photo is gone, or no mark can be used.
    """
    pinned = read_inputs(inputs)
    marks = logo_store.pinned_marks(store, pinned)
    datasets = logo_store.pinned_datasets(store, pinned)
    ledger = retrain.LedgerPhotos(store, pinned.tables.model_dump()["media"], pinned.synthetic)
    with tempfile.TemporaryDirectory() as scratch, replacing_folder(about) as report_to, replacing_folder(out) as folder:
        reviewed, outcomes = _reviewed(params, pinned, store, Path(scratch), report_to)
        real = [*([reviewed] if reviewed else []), *datasets]
        made, composites = None, None
        if marks and params.logo_data.num_composites:
            made, composites = retrain.compose(params, _merged(params, real, folder)[0], marks, ledger)
        parts = [*real, retrain.located(made, folder)] if made else real
        dataset, account = _merged(params, parts, folder)
        if made:
            of_ours = dataset.images["file"].map(lambda file: isinstance(file, str) and not Path(file).is_absolute())
            retrain.publish(made, dataset.images.loc[of_ours, "digest"], folder)
        logo_dataset.write(dataset)
        report: dict[str, Any] = {"outcomes": outcomes, "datasets": pinned.logo_datasets, "composites": composites, "merged": account}
        report |= {"counts": logo_dataset.counts(dataset), "digest": dataset.digest, "synthetic": dataset.synthetic}
        write_json(report_to / "report.json", report)
    if made:
        shutil.rmtree(made.folder.parent, ignore_errors=True)  # the checkpoint: what it holds is published
    return Result(replace(dataset, folder=out), report)


def _reviewed(
    params: parameters.Params, pinned: Inputs, store: Path, scratch: Path, report_to: Path
) -> tuple[Dataset | None, dict[str, Any]]:
    """What reviewers said, None where nothing of it can be used; and what became of each outcome."""
    versions = pinned.tables.model_dump()
    if not len(Ledger(store).read("logo_outcomes", ["outcome_id"], version=versions["logo_outcomes"])):
        return None, {"rows": 0}
    try:
        result = logo_outcomes.run(params.logo_data, params.seed, store, scratch / "outcomes", versions)
    except NoneUsable as error:
        return None, {"reason": str(error)}
    shutil.copy(scratch / "outcomes" / "quarantine.parquet", report_to)
    return replace(result.dataset, synthetic=pinned.synthetic), result.report


def _merged(params: parameters.Params, parts: Sequence[Dataset], folder: Path) -> tuple[Dataset, dict[str, int]]:
    """The parts as one, empty where there are none. Photos in `folder` are named from there: its own place is no content."""
    if not parts:
        images, boxes = (pd.DataFrame(columns=schema.names) for schema in (logo_dataset.IMAGES, logo_dataset.BOXES))
        return logo_dataset.assemble(folder, (), images, boxes, boxes, synthetic=False), {}
    dataset, account = grouping.merge(parts, folder, params.logo_data.max_hash_distance)
    within = f"{folder.resolve()}/"
    files = [file.removeprefix(within) if isinstance(file, str) else None for file in dataset.images["file"]]
    images = dataset.images.assign(file=pd.Series(files, index=dataset.images.index, dtype=object))
    return replace(dataset, images=images), account


@command("logo_data")
def main(
    inputs: Annotated[Path, typer.Option(help="JSON that `python -m upheld.registry.runs.pin` wrote.")] = INPUTS,
    out: Annotated[Path, typer.Option(help="Folder to write.")] = LOGO_DATASET,
    about: Annotated[Path, typer.Option(help="Folder to write: what the dataset was made of.")] = LOGO_DATASET_REPORT,
    asked: ParamOptions = PARAM_OPTIONS,
    store: StoreFolder = STORE_FOLDER,
) -> Output:
    """Put together what the logo detector learns from."""
    report = run(parameters.load(*asked), inputs, store, out, about).report
    splits = ", ".join(f"{split} {made['photos']} photos with {made['boxes']} boxes" for split, made in report["counts"]["splits"].items())
    lines = [f"logo_data: {len(report['counts']['brands'])} brands; {splits}" + (" (synthetic)" if report["synthetic"] else "")]
    lines += [report["outcomes"]["reason"]] if "reason" in report["outcomes"] else []
    composites = report["composites"] or {}
    lines += [f"composites: none, {composites['reason']}"] if "reason" in composites else []
    lines += [f"refused: {refusal['file']}: {refusal['detail']}" for refusal in composites.get("refused", [])]
    return Output(report, "\n".join(lines))


if __name__ == "__main__":
    sys.exit(main())
