"""Fit the calibration layer and certify both thresholds of every category, from the calibration split of a score table."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from upheld.common import files
from upheld.common.command import PARAM_OPTIONS, ChampionScores, ColumnNames, Output, ParamOptions, ScoreFile, command
from upheld.common.params import params
from upheld.common.terminal import console
from upheld.evaluation.scores import selection as score_rows
from upheld.evaluation.scores.table import Columns, parse_columns
from upheld.evaluation.thresholds import both_thresholds, calibration
from upheld.feature_store.contracts import hashing
from upheld.feature_store.contracts.workspace import CALIBRATION, SCORES
from upheld.feature_store.decisions.thresholds import Thresholds

FORMAT = 1


@dataclass(frozen=True)
class Result:
    """Contents of calibration.json and thresholds.json."""

    calibration: dict[str, Any]
    thresholds: Thresholds


def run(
    settings: params.Params,
    score_file: Path,
    out: Path,
    *,
    incumbent: Path | None = None,
    champion_scores: Path | None = None,
    columns: Columns | None = None,
) -> Result:
    """Calibrate on one half of the labels, certify on the other, write both files.

    Args:
        settings: all params; read are seed, calibration, thresholds.
        score_file: table in the scores contract; its rows of split `calib`, or all but `test` where no row is called so.
        out: folder for calibration.json and thresholds.json.
        incumbent: thresholds.json in force.
        champion_scores: the champion's calibrated probabilities on the same rows, where `incumbent` belongs to another model.
        columns: other names of the contract's columns.

    Raises:
        BadUse: a file or a row breaks its contract; nothing is written then.
    """
    selection = score_rows.select(score_file, columns or Columns(), (), wanted="calib", other="test")
    labelled = score_rows.labelled(selection)
    # A label that shaped the calibrator says nothing new about its output: one part fits, the other certifies, for good.
    fits = hashing.uniform(f"calibrate:{settings.seed}", labelled.item_id) < settings.calibration.share
    fitting = labelled[fits]
    frame_min = settings.thresholds.frame_min_inclusion_prob
    layer_cubes, facts = score_rows.build_cubes(selection, (), None, frame_min)
    fitted = calibration.fit(fitting, layer_cubes[None].categories, settings.calibration)
    cubes, _ = score_rows.build_cubes(selection, (), fitted, frame_min, hidden=frozenset(fitting.item_id))
    champion = None
    if champion_scores is not None:
        selected = score_rows.select(champion_scores, Columns(), (), wanted="calib", other="test")
        champion = score_rows.build_cubes(selected, (), None, frame_min)[0][None]
    decided = both_thresholds.decide(
        cubes[None],
        settings.thresholds,
        incumbent=None if incumbent is None else Thresholds.read(incumbent),
        champion=champion,
        seed=settings.seed,
    )
    about = {"format": FORMAT, "synthetic": facts.synthetic, "data_digest": facts.digest, "seed": settings.seed}
    layer = {**about, "num_labels": len(fitting), **fitted}
    certified = Thresholds.parse(
        {
            **about,
            "calibration_digest": hashing.of_json(fitted),
            "num_labels": len(labelled) - len(fitting),
            "unknown_language": settings.thresholds.unknown_language,  # routing needs it for languages that these labels did not meet
            "categories": decided,
        }
    )
    files.write_json(out / "calibration.json", layer)
    certified.write(out / "thresholds.json")
    return Result(layer, certified)


@command("calibrate")
def main(
    score_file: ScoreFile = None,
    out: Annotated[Path, typer.Option(help="Folder for calibration.json and thresholds.json.")] = CALIBRATION,
    incumbent: Annotated[Path | None, typer.Option("--thresholds", help="thresholds.json in force.")] = None,
    champion_scores: ChampionScores = None,
    columns: ColumnNames = "",
    asked: ParamOptions = PARAM_OPTIONS,
) -> Output:
    """Fit the calibration layer and certify thresholds."""
    settings = params.load(*asked)
    with console().status("Calibrating and certifying thresholds"):
        result = run(
            settings,
            score_file or SCORES,
            out,
            incumbent=incumbent,
            champion_scores=champion_scores,
            columns=parse_columns(columns),
        )
    categories = result.thresholds.model_dump(exclude_unset=True)["categories"]
    lines = []
    for name, category in result.thresholds.categories.items():
        for action, certificate in (("auto_remove", category.auto_remove), ("review", category.review)):
            at = "none" if certificate.threshold is None else f"{certificate.threshold:.4f}"
            need = f", needs {certificate.need_n:.0f} labels" if certificate.need_n else ""
            lines.append(f"  {name} {action}: {certificate.outcome}, threshold {at}, {certificate.n} labels{need}")
    lines.append(f"Wrote {out}/calibration.json and {out}/thresholds.json")
    text = "\n".join(lines)
    return Output({"out": str(out), "categories": categories}, lambda: console().print(text, markup=False, soft_wrap=True))


if __name__ == "__main__":
    sys.exit(main())
