"""Evaluate the test split of a score table: metrics of every cell, the gate's decision, and the report people read."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer

from upheld.common.command import (
    PARAM_OPTIONS,
    STORE_FOLDER,
    ChampionScores,
    ColumnNames,
    Groups,
    Output,
    ParamOptions,
    ScoreFile,
    ShowText,
    StoreFolder,
    command,
)
from upheld.common.params import params
from upheld.common.terminal import console
from upheld.evaluation import behaviour, gate
from upheld.evaluation.cube.bins import edges
from upheld.evaluation.metrics import importance, paired
from upheld.evaluation.metrics.paired import NOTHING, Comparator
from upheld.evaluation.metrics.table import limits_of, measure, operating_points
from upheld.evaluation.report import content, logos, members
from upheld.evaluation.report.render import Result, write
from upheld.evaluation.robustness import figures as robustness
from upheld.evaluation.robustness import table as attack_table
from upheld.evaluation.scores import selection as score_rows
from upheld.evaluation.scores.table import Columns, parse_columns
from upheld.evaluation.thresholds.operating_point import OperatingPoint, operating_point
from upheld.feature_store.contracts.workspace import (
    ABLATIONS,
    ATTACKS,
    CALIBRATION_MAPS,
    CHAMPION_SCORES,
    EVALUATION,
    FEATURES,
    FUSION_ACCOUNT,
    INPUTS,
    LOGO_EVALUATION,
    SCORES,
    TEXT_RECORD,
    THRESHOLDS,
    Event,
    Hold,
    read_inputs,
)
from upheld.feature_store.decisions import calibration as calibration_map
from upheld.feature_store.decisions import freezes
from upheld.feature_store.decisions.thresholds import Thresholds


@dataclass(frozen=True)
class Inputs:
    """What an evaluation reads; only `scores` is needed.

    scores: table in the scores contract.
    thresholds, calibration: what to apply to them.
    comparator_scores: scores of another model on the same rows: the champion's, calibrated already, or those of what served.
    served: whether they are of what served.
    behaviour: folder that `upheld behave` wrote for the model of the scores.
    logos: folder that `upheld logo evaluate` wrote for the logo detector.
    attacks: table of what the models said of posts before and after attacks, as the stage attack wrote it.
    features: coverage and drift of features, as the stage snapshot wrote them.
    fusion, text: metadata.json of the fusion layer, and of the text classifier.
    ablations: table of what fusion says with and without each of its sources.
    frozen: categories in which a person has stopped automatic removal.
    held: reviewers whose verdicts a person has taken out of the scores' labels.
    show_text: whether the report shows the column `text` of the posts that it lists; otherwise their ids alone.
    """

    scores: Path
    thresholds: Path | None = None
    calibration: Path | None = None
    comparator_scores: Path | None = None
    served: bool = False
    behaviour: Path | None = None
    logos: Path | None = None
    attacks: Path | None = None
    features: Path | None = None
    fusion: Path | None = None
    text: Path | None = None
    ablations: Path | None = None
    frozen: tuple[Event, ...] = ()
    held: tuple[Hold, ...] = ()
    show_text: bool = False


def of_the_stage(given: Inputs) -> Inputs:
    """The stage's own files for whatever was not named, and the freezes that were pinned: a stage reads nothing that DVC does not know.

    Raises:
        BadUse: data/inputs.json is missing or malformed.
    """
    pinned = read_inputs(INPUTS)
    return replace(
        given,
        thresholds=given.thresholds or THRESHOLDS,
        calibration=given.calibration or CALIBRATION_MAPS,
        comparator_scores=given.comparator_scores or CHAMPION_SCORES,
        served=given.comparator_scores is None and pinned.champion is None,
        logos=given.logos or LOGO_EVALUATION,
        attacks=given.attacks or ATTACKS,
        features=FEATURES,
        fusion=FUSION_ACCOUNT,
        text=TEXT_RECORD,
        ablations=ABLATIONS,
        frozen=pinned.frozen,
        held=pinned.held,
    )


def run(settings: params.Params, inputs: Inputs, out: Path, *, groups: Sequence[str] = (), columns: Columns | None = None) -> Result:
    """Evaluate and write the files of `render.write`.

    Args:
        settings: all params; read are seed, thresholds, fairness, gate.
        inputs: the files; rows of split `test` are used, or all but `calib` where no row is called so.
        out: folder for the files.
        groups: further columns to split by; `a*b` crosses two.
        columns: other names of the contract's columns.

    Raises:
        BadUse: a file or a row breaks its contract; nothing is written then.
    """
    selection = score_rows.select(inputs.scores, columns or Columns(), groups, wanted="test", other="calib")
    calibration = None if inputs.calibration is None else calibration_map.load(inputs.calibration)
    thresholds = None if inputs.thresholds is None else Thresholds.read(inputs.thresholds)
    cubes, facts = score_rows.build_cubes(selection, groups, calibration, settings.thresholds.frame_min_inclusion_prob)
    points = operating_points(cubes[None], thresholds, settings)
    limits = limits_of(settings)
    compared, changes = _comparison(inputs, selection, calibration, points, limits.alpha)
    table = measure(cubes, points, settings, changes)
    marks = None if inputs.logos is None else logos.read(inputs.logos)
    attacked = None if inputs.attacks is None else _attacks(inputs.attacks, calibration, thresholds, settings)
    checks = [*gate.logo_checks(marks, settings.gate.logo_min_map_50), *gate.attack_checks(attacked, settings.gate)]
    decision = gate.decide(table, settings.gate, compared=compared, thresholds=thresholds, further=checks)
    picked: dict[str, Any] = {}  # mistakes to look at, where the table is short enough to be read once more
    if facts.num_rows <= content.MAX_ROWS_READ_AGAIN:
        wanted = ["text"] if inputs.show_text else []
        again = score_rows.select(inputs.scores, columns or Columns(), wanted, wanted="test", other="calib")
        rows = score_rows.listable(again, calibration)
        texts = rows.drop_duplicates("item_id").set_index("item_id")["text"] if inputs.show_text else None
        picked = content.pick_examples(rows, points, texts)
    evaluation = content.Evaluation(
        facts=facts,
        metrics=table,
        gate=decision,
        thresholds=thresholds,
        cube=cubes[None],
        points=points,
        limits=limits,
        calibrated=calibration is not None,
        compared=compared,
        frozen=[event.model_dump(mode="json") for event in inputs.frozen],
        held=[hold.model_dump(mode="json") for hold in inputs.held],
        examples=picked,
        behaviour=[] if inputs.behaviour is None else behaviour.load(inputs.behaviour),
        logos=marks,
        attacks=attacked,
        fusion=None if inputs.fusion is None else members.read(inputs.fusion),
    )
    story = content.build(evaluation)
    if inputs.text is not None:
        story["fusion"]["sentences"] += members.forgotten(inputs.text)
    if inputs.ablations is not None:
        story["fusion"]["importance"] = importance.measure(importance.read(inputs.ablations), limits.alpha)
    if inputs.features is not None:
        story["features"] = content.read_features(inputs.features)
    result = Result(table, decision, story, attacked)
    write(out, result)
    return result


@command("evaluate")
def main(
    score_file: ScoreFile = None,
    out: Annotated[Path, typer.Option(help="Folder for metrics, gate and report.")] = EVALUATION,
    thresholds: Annotated[Path | None, typer.Option(help="thresholds.json; without it rates are taken at the default score.")] = None,
    calibration: Annotated[Path | None, typer.Option(help="calibration.json to apply to the scores.")] = None,
    champion_scores: ChampionScores = None,
    behaviour: Annotated[Path | None, typer.Option(help="Folder that `upheld behave` wrote for the model of the scores.")] = None,
    logos: Annotated[Path | None, typer.Option(help="Folder that `upheld logo evaluate` wrote for the detector.")] = None,
    attacks: Annotated[Path | None, typer.Option(help="Table that the stage `attack` wrote for the model of the scores.")] = None,
    group: Groups = [],  # noqa: B006 (Typer copies it)
    columns: ColumnNames = "",
    show_text: ShowText = False,
    asked: ParamOptions = PARAM_OPTIONS,
    store: StoreFolder = STORE_FOLDER,
) -> Output:
    """Metrics per category and language, verdicts, gate and report."""
    settings = params.load(*asked)
    given = Inputs(
        score_file or SCORES,
        thresholds,
        calibration,
        champion_scores,
        behaviour=behaviour,
        logos=logos,
        attacks=attacks,
        show_text=show_text,
    )
    inputs = replace(given, frozen=tuple(freezes.frozen(store).values())) if score_file else of_the_stage(given)
    with console().status("Evaluating"):
        result = run(settings, inputs, out, groups=group, columns=parse_columns(columns))
    headline = result.report["headline"]
    text = f"{headline}\nReport: {out}/report.html"
    content = {"out": str(out), "decision": result.gate["decision"], "headline": headline}
    return Output(content, lambda: console().print(text, markup=False, soft_wrap=True))


def _comparison(
    inputs: Inputs,
    selection: score_rows.Selection,
    calibration: Mapping[str, Any] | None,
    points: Mapping[str, OperatingPoint],
    alpha: float,
) -> tuple[Comparator, pd.DataFrame | None]:
    """What the scores are compared with, and the paired changes; nothing and None without a file, or where no row of it has a label."""
    if inputs.comparator_scores is None:
        return NOTHING, None
    chosen = score_rows.select(inputs.comparator_scores, Columns(), (), wanted="test", other="calib")
    theirs = score_rows.labelled(chosen, ["model_version"])
    if theirs.empty:
        return NOTHING, None
    theirs = theirs.assign(model_version=theirs.model_version.astype(str) if "model_version" in theirs else "the champion")
    challenger = score_rows.labelled(selection)
    challenger = challenger.assign(prob=score_rows.calibrated(challenger, calibration))
    rows = paired.join(challenger, theirs.rename(columns={"score": "prob"}))
    names = theirs.model_version.value_counts().sort_index().sort_values(ascending=False, kind="stable").index
    compared = Comparator("served" if inputs.served else "champion", tuple(names))
    return compared, paired.compare(rows, points, alpha, served=inputs.served)


def _attacks(path: Path, calibration: Mapping[str, Any] | None, thresholds: Thresholds | None, settings: params.Params) -> pd.DataFrame:
    """What attacks cost: the ensemble's scores are calibrated as those of the table, and judged at the review threshold, else at the
    default score."""
    rows, default = attack_table.read(path), settings.thresholds.default_score
    fused = rows.member == attack_table.ENSEMBLE
    for name in ("clean_prob", "attacked_prob"):
        scores = rows[fused].rename(columns={"policy": "category", name: "score"})
        rows.loc[fused, name] = score_rows.calibrated(scores, calibration)
    cuts = {policy: operating_point(thresholds, policy, (), default).cuts[0] for policy in rows.policy.unique()}
    ends = np.append(edges(), np.inf)  # beyond the last bin nothing is found
    return robustness.measure(rows, {policy: float(ends[cut]) for policy, cut in cuts.items()}, settings.fairness.alpha)


if __name__ == "__main__":
    sys.exit(main())
