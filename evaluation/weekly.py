"""The weekly calibration report: what each model that served in a week did, and which thresholds the week's labels support."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from evaluation import (
    behaviour_files,
    evaluate,
    examples,
    gate,
    score_files,
    score_rows,
    scores,
    thresholds,
    week_changes,
    week_drift,
    week_people,
    week_scores,
    week_source,
)
from evaluation.cube import Cube
from evaluation.operating_point import OperatingPoint, load_thresholds
from evaluation.options import Groups, ShowText
from evaluation.report import content, week_story
from evaluation.week_source import Tables
from feature_store import atomic, digest, freeze_log, params
from feature_store.command import PARAMS_FILE, STORE_FOLDER, AsJson, Overrides, ParamsFile, StoreFolder, console, execute, parse_time
from feature_store.errors import BadUse

FORMAT = 1
GOLD = ("post_id", "category", "label")


@dataclass(frozen=True)
class Inputs:
    """What a weekly report reads besides the week's tables; all may be left out.

    thresholds: thresholds.json in force; without it they are read off the decisions' own actions.
    state: state.json of an earlier week's report.
    gold: post_id, category, label 0/1 of items whose truth was adjudicated.
    frozen: categories in which a person has stopped automatic removal.
    behaviour: store in which `upheld behave` keeps its results.
    show_text: whether the posts that the report lists are shown with their text.
    """

    thresholds: Path | None = None
    state: Path | None = None
    gold: Path | None = None
    frozen: Mapping[str, freeze_log.Event] | None = None
    behaviour: Path | None = None
    show_text: bool = False


@dataclass(frozen=True)
class Served:
    """One model's week: its score table counted, its thresholds in force, its metrics, and the thresholds proposed."""

    model: str
    rows: pd.DataFrame
    cubes: Mapping[str | None, Cube]
    facts: score_rows.Facts
    now: dict[str, OperatingPoint]
    metrics: pd.DataFrame
    proposed: dict[str, Any]


def run(
    settings: params.Params, week: str, tables: Tables, out: Path, inputs: Inputs, *, as_of: pd.Timestamp, groups: Sequence[str] = ()
) -> dict[str, evaluate.Result]:
    """Report on every model that served in the week.

    Args:
        settings: all params; read are seed, thresholds, fairness, drift, reviewers, gate.
        week: ISO week.
        tables: its decisions, posts and outcomes.
        out: folder; gets a folder for each model version (scores.parquet, thresholds.json and all that `evaluate` writes), state.json,
            metrics.parquet of all models, and weekly.json, which names them.
        inputs: see Inputs.
        as_of: what was reviewed or recorded later is unknown.
        groups: further columns to split by: region, author_group, or `a*b`.

    Returns:
        model version -> what was written for it.

    Raises:
        BadUse: an input breaks its contract.
    """
    before = week_drift.load(inputs.state, week)
    gold = read_gold(inputs.gold)
    rows = week_scores.build(tables, week, as_of)
    given = None if inputs.thresholds is None else load_thresholds(inputs.thresholds)
    names = _in_order(tables.decisions)
    ruled = given.get("model_version", names[-1]) if given else None  # a threshold never passes to another model's score scale
    if ruled is not None and ruled not in names:
        raise BadUse(f"{inputs.thresholds}: belongs to {ruled!r}, which did not serve in {week}; {', '.join(names)} did")
    served = []
    for name in names:
        own = rows[rows.model_version == name]
        served.append(_serve(settings, name, own, out / folder_name(name), given if name == ruled else None, groups))
    counted = week_people.votes(tables, gold, as_of)
    entries = [week_drift.advance(before, week, one.model, one.cubes[None], one.now, one.metrics, settings) for one in served]
    results = {}
    for one, entry in zip(served, entries, strict=True):
        result = _tell(settings, week, tables, one, served, entry, [*before, *entries], counted, inputs, as_of)
        certified = _certified(settings, week, one)
        atomic.write_json(out / folder_name(one.model) / "thresholds.json", certified)
        evaluate.write(out / folder_name(one.model), result)
        results[one.model] = result
    _write_together(out, week, results, [*before, *entries])
    return results


def folder_name(model: str) -> str:
    """A model version as the name of a folder: what a path would act on is replaced, and a digest keeps two such names apart."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", model)[:80].lstrip(".")
    return plain if plain == model else f"{plain}-{digest.of_bytes(model.encode())[:8]}"


def read_gold(path: Path | None) -> pd.DataFrame:
    """Items whose truth was adjudicated: post_id, category, label; none where there is no file.

    Raises:
        BadUse: a column is missing, a label is neither 0 nor 1, or an item comes twice.
    """
    if path is None:
        return pd.DataFrame({"post_id": pd.Series(dtype=str), "category": pd.Series(dtype=str), "label": pd.Series(dtype=float)})
    parts = []
    for file in score_files.find(path):
        absent = [name for name in GOLD if name not in score_files.column_names(file)]
        if absent:
            raise BadUse(f"{file}: no column {absent[0]!r}; expected {', '.join(GOLD)}")
        parts += [batch.to_pandas().astype(str) for batch in score_files.batches(file, GOLD)]
    gold: pd.DataFrame = pd.concat(parts, ignore_index=True)
    label = pd.to_numeric(gold.label, errors="coerce")
    wrong = ~label.isin([0, 1]) | gold.duplicated(["post_id", "category"])
    if wrong.any():
        first = gold[wrong].iloc[0]
        raise BadUse(f"{path}: post_id {first.post_id!r}, {first.category}: found label {first.label!r}; expected 0 or 1, once an item")
    gold["label"] = label
    return gold


def main(argv: Sequence[str] | None = None) -> int:
    """Report on one week. Returns the exit code."""

    def weekly(
        week: Annotated[str, typer.Option(help="ISO week of the decisions, such as 2026-W43.")],
        out: Annotated[Path, typer.Option(help="Folder for the reports, one folder a model version.")],
        delivery: Annotated[Path | None, typer.Option(help="Delivery to read; without it the ledger of the store.")] = None,
        thresholds_file: Annotated[
            Path | None, typer.Option("--thresholds", help="thresholds.json in force; without it the decisions' own boundaries.")
        ] = None,
        state: Annotated[Path | None, typer.Option(help="state.json of the week before, which drift is carried on from.")] = None,
        gold: Annotated[Path | None, typer.Option(help="Adjudicated items (post_id, category, label), to correct for reviewers.")] = None,
        group: Groups = [],  # noqa: B006 (Typer copies it)
        show_text: ShowText = False,
        as_of: Annotated[str, typer.Option(help="Leave out what was reviewed later, ISO 8601 with a zone.")] = "",
        params_file: ParamsFile = PARAMS_FILE,
        overrides: Overrides = [],  # noqa: B006 (Typer copies it)
        store: StoreFolder = STORE_FOLDER,
        as_json: AsJson = False,
    ) -> None:
        """Thresholds, audits, appeals, drift, fairness and reviewers of one week, for every model that served."""
        settings = params.load(params_file, overrides)
        moment = pd.Timestamp(parse_time(as_of, "--as-of")) if as_of else pd.Timestamp.max.tz_localize("UTC")
        inputs = Inputs(thresholds_file, state, gold, freeze_log.frozen(store), store, show_text)
        with console().status(f"Reading {week}") as status:
            tables = week_source.read(week, store=store, delivery=delivery, also=frozenset(read_gold(gold).post_id))
            status.update(f"Reporting on {week}")
            results = run(settings, week, tables, out, inputs, as_of=moment, groups=group)
        if as_json:
            print((out / "weekly.json").read_text(encoding="utf-8"))
        else:
            for name, result in results.items():
                page = out / folder_name(name) / "report.html"
                console().print(f"{name}: {result.report['headline']}\n  Report: {page}", markup=False, soft_wrap=True)

    return execute(weekly, "weekly", argv)


def _in_order(decisions: pd.DataFrame) -> list[str]:
    """Model versions in the order in which they began to serve."""
    return [str(name) for name in decisions.groupby("model_version").decided_at.min().sort_values(kind="stable").index]


def _serve(
    settings: params.Params, model: str, rows: pd.DataFrame, folder: Path, given: Mapping[str, Any] | None, groups: Sequence[str]
) -> Served:
    """Count one model's week and decide on its thresholds. The scores are what it acted on: probabilities, taken as they are."""
    with atomic.replacing(folder / "scores.parquet") as partial:
        rows[week_scores.COLUMNS].to_parquet(partial, index=False)
    selection = score_rows.select(folder / "scores.parquet", scores.Columns(), groups, wanted="test", other="calib")
    cubes, facts = score_rows.build_cubes(selection, groups, None, settings.thresholds.frame_min_inclusion_prob)
    in_force = given or week_scores.shown_thresholds(rows)
    points = evaluate.operating_points(cubes[None], in_force, settings)
    proposed = thresholds.decide(cubes[None], settings.thresholds, incumbent=in_force, seed=settings.seed)
    return Served(model, rows, cubes, facts, points, evaluate.measure(cubes, points, settings), proposed)


def _certified(settings: params.Params, week: str, one: Served) -> dict[str, Any]:
    """Content of thresholds.json: the proposal, which takes effect only once a person has approved it."""
    return {
        "format": FORMAT,
        "synthetic": one.facts.synthetic,
        "data_digest": one.facts.digest,
        "seed": settings.seed,
        "week": week,
        "model_version": one.model,
        "num_labels": one.facts.num_labelled,
        "unknown_language": settings.thresholds.unknown_language,
        "categories": one.proposed,
    }


def _tell(
    settings: params.Params,
    week: str,
    tables: Tables,
    one: Served,
    served: Sequence[Served],
    entry: dict[str, Any],
    history: Sequence[dict[str, Any]],
    counted: pd.DataFrame,
    inputs: Inputs,
    as_of: pd.Timestamp,
) -> evaluate.Result:
    """The report on one model."""
    cube, certified = one.cubes[None], {"categories": one.proposed}
    decision = gate.decide(one.metrics, settings.gate, has_champion=False, thresholds=certified)
    story = content.build(
        facts=one.facts,
        metrics=one.metrics,
        gate=decision,
        thresholds=certified,
        cube=cube,
        points=one.now,
        limits=evaluate.limits_of(settings),
        calibrated=False,
        has_champion=False,
    )
    wrongful = {name: week_drift.pooled(one.metrics, name, "wrongful_removal_share") for name in cube.categories}
    corrected = week_people.corrected_precision(one.rows, cube, one.now, counted, settings.reviewers)
    proposed = evaluate.operating_points(cube, certified, settings)
    texts = tables.posts.set_index("post_id").text if inputs.show_text else None
    told = {
        "week": week,
        "model_version": one.model,
        "labels_until": _until(tables, as_of),
        "served": [_column(other) for other in served],
        "changes": week_changes.compare(cube, one.now, proposed, one.proposed),
        "drift": week_drift.alarms(entry, [past for past in history if past["week"] < week], settings.drift),
        "history": [{name: past[name] for name in ("week", "model_version", "metrics")} for past in history],
        "appeals": week_people.describe_appeals(tables, one.rows, wrongful, as_of),
        "reviewers": week_people.describe_reviewers(counted, one.rows, settings.reviewers) | {"corrected": corrected},
        "missing": week_changes.missing_evidence(one.proposed, one.metrics, corrected, settings.reviewers),
        "frozen": [json.loads(event.model_dump_json()) for event in (inputs.frozen or {}).values()],
        "examples": examples.pick(one.rows.rename(columns={"score": "prob"}), one.now, texts),
        "behaviour": [] if inputs.behaviour is None else behaviour_files.load(behaviour_files.folder_of(inputs.behaviour, one.model)),
        "otherwise_decided": week_scores.num_otherwise(one.rows, one.now),
        "thresholds_from": "the decisions' own actions" if inputs.thresholds is None else str(inputs.thresholds.name),
    }
    return evaluate.Result(one.metrics, decision, week_story.extend(story, told))


def _until(tables: Tables, as_of: pd.Timestamp) -> str | None:
    """Time of the latest verdict that was known."""
    known = tables.outcomes.reviewed_at[tables.outcomes.reviewed_at <= as_of]
    return None if known.empty else str(known.max().isoformat())


def _column(one: Served) -> dict[str, Any]:
    """A model's column in the comparison of all that served."""
    figures = {
        category: {name: week_drift.pooled(one.metrics, category, name) for name in week_drift.SHOWN}
        for category in one.cubes[None].categories
    }
    actions = one.rows.groupby("category").action.value_counts().unstack(fill_value=0)
    volumes = {str(name): {str(action): int(num) for action, num in row.items()} for name, row in actions.iterrows()}
    return {
        "model_version": one.model,
        "decisions": len(one.rows),
        "labelled": one.facts.num_labelled,
        "actions": volumes,
        "metrics": figures,
    }


def _write_together(out: Path, week: str, results: Mapping[str, evaluate.Result], entries: Sequence[dict[str, Any]]) -> None:
    table = pd.concat([result.metrics.assign(model_version=name) for name, result in results.items()], ignore_index=True)
    with atomic.replacing(out / "metrics.parquet") as partial:
        table.to_parquet(partial, index=False)
    atomic.write_json(out / "state.json", {"format": week_drift.FORMAT, "entries": list(entries)})
    models = [
        {"model_version": name, "folder": folder_name(name), "decision": result.gate["decision"], "headline": result.report["headline"]}
        for name, result in results.items()
    ]
    atomic.write_json(out / "weekly.json", {"week": week, "models": models})  # last: where it is, everything is


if __name__ == "__main__":
    raise SystemExit(main())
