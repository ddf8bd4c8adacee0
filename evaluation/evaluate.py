"""Evaluate the test split of a score table: metrics of every cell, the gate's decision, and the report people read."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from evaluation import behaviour_files, examples, gate, metrics, paired, score_rows, scores
from evaluation.cube import Cube
from evaluation.evaluate_inputs import STAGE_SCORES, Inputs, of_the_stage
from evaluation.metric_rows import Settings
from evaluation.operating_point import OperatingPoint, load_thresholds, operating_point
from evaluation.options import ChampionScores, ColumnNames, Groups, ScoreFile, ShowText
from evaluation.report import content, features, render
from feature_store import atomic, calibration_map, freeze_log, params
from feature_store.command import PARAMS_FILE, STORE_FOLDER, AsJson, Overrides, ParamsFile, StoreFolder, console, execute

STAGE_OUT = Path("data/evaluation")


@dataclass(frozen=True)
class Result:
    """The long metrics table, the gate's decision and checks, and everything the report shows."""

    metrics: pd.DataFrame
    gate: dict[str, Any]
    report: dict[str, Any]


def run(settings: params.Params, inputs: Inputs, out: Path, *, groups: Sequence[str] = (), columns: scores.Columns | None = None) -> Result:
    """Evaluate and write metrics.parquet, report.json, report.html, report.md and gate.json.

    Args:
        settings: all params; read are seed, thresholds, fairness, gate.
        inputs: the files; rows of split `test` are used, or all but `calib` where no row is called so.
        out: folder for the five files.
        groups: further columns to split by; `a*b` crosses two.
        columns: other names of the contract's columns.

    Returns:
        what was written.

    Raises:
        BadUse: a file or a row breaks its contract; nothing is written then.
    """
    selection = score_rows.select(inputs.scores, columns or scores.Columns(), groups, wanted="test", other="calib")
    calibration = None if inputs.calibration is None else calibration_map.load(inputs.calibration)
    thresholds = None if inputs.thresholds is None else load_thresholds(inputs.thresholds)
    cubes, facts = score_rows.build_cubes(selection, groups, calibration, settings.thresholds.frame_min_inclusion_prob)
    points = operating_points(cubes[None], thresholds, settings)
    limits = limits_of(settings)
    changes = _against_champion(inputs, selection, calibration, points, limits.alpha)
    table = measure(cubes, points, settings, changes)
    decision = gate.decide(table, settings.gate, has_champion=changes is not None, thresholds=thresholds)
    story = content.build(
        facts=facts,
        metrics=table,
        gate=decision,
        thresholds=thresholds,
        cube=cubes[None],
        points=points,
        limits=limits,
        calibrated=calibration is not None,
        has_champion=changes is not None,
        frozen=[event.model_dump(mode="json") for event in inputs.frozen],
        examples=_examples(inputs, columns or scores.Columns(), facts, calibration, points),
        behaviour=[] if inputs.behaviour is None else behaviour_files.load(inputs.behaviour),
    )
    if inputs.features is not None:
        story["features"] = features.read(inputs.features)
    result = Result(table, decision, story)
    write(out, result)
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate as the stage of the graph, or any table of scores. Returns the exit code."""

    def evaluate(
        score_file: ScoreFile = None,
        out: Annotated[Path, typer.Option(help="Folder for metrics, gate and report.")] = STAGE_OUT,
        thresholds: Annotated[Path | None, typer.Option(help="thresholds.json; without it rates are taken at the default score.")] = None,
        calibration: Annotated[Path | None, typer.Option(help="calibration.json to apply to the scores.")] = None,
        champion_scores: ChampionScores = None,
        behaviour: Annotated[Path | None, typer.Option(help="Folder that `upheld behave` wrote for the model of the scores.")] = None,
        group: Groups = [],  # noqa: B006 (Typer copies it)
        columns: ColumnNames = "",
        show_text: ShowText = False,
        params_file: ParamsFile = PARAMS_FILE,
        overrides: Overrides = [],  # noqa: B006 (Typer copies it)
        store: StoreFolder = STORE_FOLDER,
        as_json: AsJson = False,
    ) -> None:
        """Metrics per category and language, verdicts, gate and report."""
        settings = params.load(params_file, overrides)
        given = Inputs(score_file or STAGE_SCORES, thresholds, calibration, champion_scores, behaviour, show_text=show_text)
        inputs = replace(given, frozen=tuple(freeze_log.frozen(store).values())) if score_file else of_the_stage(given)
        with console().status("Evaluating"):
            result = run(settings, inputs, out, groups=group, columns=scores.parse_columns(columns))
        if as_json:
            print(json.dumps({"out": str(out), "decision": result.gate["decision"], "headline": result.report["headline"]}))
        else:
            console().print(f"{result.report['headline']}", markup=False, soft_wrap=True)
            console().print(f"Report: {out}/report.html", markup=False, soft_wrap=True)

    return execute(evaluate, "evaluate", argv)


def _examples(
    inputs: Inputs,
    columns: scores.Columns,
    facts: score_rows.Facts,
    calibration: Mapping[str, Any] | None,
    points: Mapping[str, OperatingPoint],
) -> dict[str, Any]:
    """Mistakes to look at, where the table is short enough to be read once more."""
    if facts.num_rows > examples.MAX_ROWS:
        return {}
    wanted = ["text"] if inputs.show_text else []
    rows = score_rows.listable(score_rows.select(inputs.scores, columns, wanted, wanted="test", other="calib"), calibration)
    texts = rows.drop_duplicates("item_id").set_index("item_id")["text"] if inputs.show_text else None
    return examples.pick(rows, points, texts)


def limits_of(settings: params.Params) -> Settings:
    """Error of intervals, tolerated gaps and the seed, out of the params."""
    section = settings.fairness
    return Settings(section.alpha, section.tau_gap, section.tau_ratio, section.level, settings.seed)


def operating_points(cube: Cube, thresholds: Mapping[str, Any] | None, settings: params.Params) -> dict[str, OperatingPoint]:
    """The operating point of every category of a cube, from the content of thresholds.json or None."""
    section = settings.thresholds
    return {
        category: operating_point(thresholds, category, cube.languages, section.default_score, section.unknown_language)
        for category in cube.categories
    }


def _against_champion(
    inputs: Inputs,
    selection: score_rows.Selection,
    calibration: Mapping[str, Any] | None,
    points: Mapping[str, OperatingPoint],
    alpha: float,
) -> pd.DataFrame | None:
    """Paired changes; None where there is no champion (no file, or a table without rows)."""
    if inputs.champion_scores is None:
        return None
    champion_rows = score_rows.select(inputs.champion_scores, scores.Columns(), (), wanted="test", other="calib")
    champion = score_rows.labelled(champion_rows)
    if champion.empty:
        return None
    challenger = score_rows.labelled(selection)
    challenger = challenger.assign(prob=score_rows.calibrated(challenger, calibration))
    return paired.compare(paired.join(challenger, champion.rename(columns={"score": "prob"})), points, alpha)


def measure(
    cubes: Mapping[str | None, Cube], points: Mapping[str, OperatingPoint], settings: params.Params, changes: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Everything in one long table; the languages that params expect are there even without a row.

    Args:
        cubes: by language under None, by group under the group's name.
        points: operating points.
        settings: all params.
        changes: paired comparison with the champion, where there is one.
    """
    parts = [metrics.compute(cube, points, limits_of(settings)) for cube in cubes.values()]
    absent = sorted(set(settings.fairness.expected_languages) - set(cubes[None].languages))
    parts += [metrics.empty_cells(list(cubes[None].categories), absent)] if absent else []
    parts += [changes] if changes is not None else []
    return metrics.tidy(pd.concat(parts, ignore_index=True))


def write(out: Path, result: Result) -> None:
    """Write metrics.parquet, report.json, report.html, report.md and gate.json."""
    table, decision, story = result.metrics, result.gate, result.report
    page, mail = render.html(story), render.markdown(story)
    with atomic.replacing(out / "metrics.parquet") as partial:
        table.to_parquet(partial, index=False)
    atomic.write_json(out / "report.json", story)
    atomic.write_text(out / "report.html", page)
    atomic.write_text(out / "report.md", mail)
    atomic.write_json(out / "gate.json", decision)  # last: where it is, everything is


if __name__ == "__main__":
    raise SystemExit(main())
