"""The weekly calibration report: what each model that served in a week did, and which thresholds its labels support."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from upheld.common.command import PARAM_OPTIONS, STORE_FOLDER, Groups, Output, ParamOptions, ShowText, StoreFolder, command, parse_time
from upheld.common.errors import BadUse
from upheld.common.params import params
from upheld.common.terminal import console, visible
from upheld.evaluation.report.render import Result, write
from upheld.evaluation.weekly import deviation, drift, model, people, report, scores, window
from upheld.evaluation.weekly.report import Inputs, Week
from upheld.evaluation.weekly.source import Source, read_gold, weeks_before
from upheld.feature_store.decisions import freezes, holds
from upheld.feature_store.decisions.thresholds import Thresholds


def run(
    settings: params.Params, week: str, inputs: Inputs, out: Path, *, as_of: pd.Timestamp, groups: Sequence[str] = ()
) -> dict[str, Result]:
    """Report on every model that served in the week.

    Args:
        settings: all params; read are seed, thresholds, fairness, drift, reviewers, gate.
        week: ISO week.
        out: folder; gets a folder for each model version (scores.parquet, thresholds.json and all that `evaluate` writes), state.json,
            metrics.parquet of all models, and weekly.json, which names them.
        as_of: what was reviewed or recorded later is unknown.
        groups: further columns to split by: region, author_group, or `a*b`.

    Returns:
        model version -> what was written for it.

    Raises:
        BadUse: no decision of that week, an input breaks its contract, or the thresholds belong to a model that did not serve.
    """
    gold = read_gold(inputs.gold)
    tables = inputs.source.read(week, also=frozenset(gold.post_id))
    before = drift.load(inputs.state, week)
    rows = scores.build(tables, week, as_of)
    # Each model with the thresholds given for it: a threshold never passes to another model's score scale.
    given, names = None if inputs.thresholds is None else Thresholds.read(inputs.thresholds), model.in_order(tables.decisions)
    owner = given and (given.model_version or names[-1])
    if owner is not None and owner not in names:
        raise BadUse(f"{inputs.thresholds}: belongs to {owner!r}, which did not serve in {week}; {', '.join(names)} did")
    served = [
        model.serve(
            settings,
            week,
            name,
            rows[rows.model_version == name],
            out / model.folder_name(name),
            given if name == owner else None,
            groups,
        )
        for name in names
    ]
    entries = [drift.advance(before, week, one.model, one.cubes[None], one.now, one.metrics, settings) for one in served]

    def read_rows(earlier: str) -> pd.DataFrame:
        """The score table of an earlier week; no row where it had no decision."""
        found = inputs.source.find(earlier)
        return rows[:0] if found is None else scores.build(found, earlier, as_of)

    served = [window.pooled(one, entry, before, read_rows, settings) for one, entry in zip(served, entries, strict=True)]
    counted = people.votes(tables, gold, as_of)
    judged = [people.on_decisions(counted, rows, week)]
    for earlier in weeks_before(week, max(deviation.WINDOWS) - 1):
        past = inputs.source.find(earlier)
        if past is not None:
            judged.append(people.on_decisions(people.votes(past, gold, as_of), scores.build(past, earlier, as_of), earlier))
    deviating = people.describe_deviation(judged, settings.reviewers)
    accused = [row["reviewer_id"] for row in deviating["accused"]]
    others = tables._replace(outcomes=tables.outcomes[~tables.outcomes.reviewer_id.isin(accused)])
    without = scores.build(others, week, as_of) if accused else rows
    shared = Week(
        settings=settings,
        name=week,
        inputs=inputs,
        tables=tables,
        as_of=as_of,
        served=served,
        history=[*before, *entries],
        counted=counted,
        deviating=deviating,
    )
    results = {}
    for one, entry in zip(served, entries, strict=True):
        folder = out / model.folder_name(one.model)
        again = model.measure_again(settings, one, without[without.model_version == one.model], folder) if accused else None
        results[one.model] = report.build(shared, one, entry, again)
        one.proposed.write(folder / "thresholds.json")
        write(folder, results[one.model])
    report.write_together(out, week, results, shared.history)
    return results


@command("weekly")
def main(
    week: Annotated[str, typer.Option(help="ISO week of the decisions, such as 2026-W43.")],
    out: Annotated[Path, typer.Option(help="Folder for the reports, one folder a model version.")],
    delivery: Annotated[Path | None, typer.Option(help="Delivery to read; without it the ledger of the store.")] = None,
    thresholds_file: Annotated[
        Path | None, typer.Option("--thresholds", help="thresholds.json in force; without it the decisions' own boundaries.")
    ] = None,
    champion: Annotated[
        str | None,
        typer.Option(help="Model version in production, or `none`; without it the report cannot say whether anybody is asked."),
    ] = None,
    incumbent: Annotated[str | None, typer.Option(help="Model whose score the one in production needs beside a post.")] = None,
    state: Annotated[Path | None, typer.Option(help="state.json of the week before, which drift is carried on from.")] = None,
    gold: Annotated[Path | None, typer.Option(help="Adjudicated items (post_id, category, label), to correct for reviewers.")] = None,
    group: Groups = [],  # noqa: B006 (Typer copies it)
    show_text: ShowText = False,
    as_of: Annotated[str, typer.Option(help="Leave out what was reviewed later, ISO 8601 with a zone.")] = "",
    asked: ParamOptions = PARAM_OPTIONS,
    store: StoreFolder = STORE_FOLDER,
) -> Output:
    """Thresholds, audits, appeals, drift, fairness and reviewers of one week, for every model that served."""
    settings = params.load(*asked, store)
    moment = pd.Timestamp(parse_time(as_of, "--as-of")) if as_of else pd.Timestamp.max.tz_localize("UTC")
    frozen, now = freezes.frozen(store), "" if champion == "none" else champion
    source = Source(store, settings.ingest, delivery, tuple(holds.held(store).values()))
    inputs = Inputs(source, thresholds_file, state, gold, frozen, store, show_text, now, incumbent)
    with console().status(f"Reporting on {week}"):
        results = run(settings, week, inputs, out, as_of=moment, groups=group)

    def show() -> None:
        """Print each model's headline and where its report lies."""
        for name, result in results.items():
            page = out / model.folder_name(name) / "report.html"
            console().print(f"{visible(name)}: {result.report['headline']}\n  Report: {page}", markup=False, soft_wrap=True)

    return Output(json.loads((out / "weekly.json").read_text(encoding="utf-8")), show)


if __name__ == "__main__":
    sys.exit(main())
