"""Put one model's week together: the gate, the evaluation's report, and what only a week can tell."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

from upheld.common import files
from upheld.common.errors import BadUse
from upheld.common.params import params
from upheld.evaluation import behaviour, gate
from upheld.evaluation.metrics.paired import NOTHING
from upheld.evaluation.metrics.table import limits_of, operating_points
from upheld.evaluation.report import content, week_story
from upheld.evaluation.report.render import Result
from upheld.evaluation.weekly import changes, drift, model, people, scores, window
from upheld.evaluation.weekly.model import Served
from upheld.evaluation.weekly.source import Source, Tables
from upheld.feature_store.contracts.workspace import Event

SUMMARY_FILE = "weekly.json"


@dataclass(frozen=True)
class Inputs:
    """What a weekly report reads; all but the source may be left out.

    source: ledger or delivery.
    thresholds: thresholds.json in force; without it they are read off the decisions' own actions.
    state: state.json of an earlier week's report; without it the window of recall is this week alone.
    gold: post_id, category, label 0/1 of items whose truth was adjudicated.
    frozen: categories in which a person has stopped automatic removal.
    behaviour: store in which `upheld behave` keeps its results.
    show_text: whether the posts that the report lists are shown with their text.
    champion: model in production, about whose thresholds a person is asked; "" where there is none, None where that is not known.
    incumbent: model whose score the champion needs beside a post.
    """

    source: Source
    thresholds: Path | None = None
    state: Path | None = None
    gold: Path | None = None
    frozen: Mapping[str, Event] | None = None
    behaviour: Path | None = None
    show_text: bool = False
    champion: str | None = None
    incumbent: str | None = None


@dataclass(frozen=True)
class Week:
    """What the reports of all models share.

    settings: all params.
    name: ISO week.
    inputs: what was read.
    tables: its decisions, posts and outcomes.
    as_of: what was reviewed or recorded later is unknown.
    served: every model of the week, in order.
    history: drift entries of earlier weeks and this one.
    counted: every verdict that counts (of `people.votes`).
    deviating: reviewers who differ on like items (of `people.describe_deviation`).
    """

    settings: params.Params
    name: str
    inputs: Inputs
    tables: Tables
    as_of: pd.Timestamp
    served: Sequence[Served]
    history: Sequence[drift.Entry]
    counted: pd.DataFrame
    deviating: Mapping[str, Any]


def build(week: Week, one: Served, entry: drift.Entry, without: pd.DataFrame | None) -> Result:
    """The report on one model; `without` has its metrics by what all but the accused reviewers said, None where nobody is accused.

    A week proposes thresholds for a model that serves already: what its labels contradict holds the proposal, and what they cannot show is
    listed with what it would take. The cells that a new model must show (`gate.required_cells`) are promotion's business.
    """
    decision = gate.decide(one.metrics, week.settings.gate, compared=NOTHING, thresholds=one.proposed, must_show=False)
    evaluation = content.Evaluation(
        facts=one.facts,
        metrics=one.metrics,
        gate=decision,
        thresholds=one.proposed,
        cube=one.cubes[None],
        points=one.now,
        limits=limits_of(week.settings),
        calibrated=False,
        compared=NOTHING,
        held=[hold.model_dump(mode="json") for hold in week.inputs.source.held],
        fusion={"incumbent": week.inputs.incumbent, "sentences": []} if one.model == week.inputs.champion else None,
    )
    story = content.build(evaluation)
    settings, cube, given = week.settings, one.cubes[None], week.inputs
    wrongful = {name: drift.pooled(one.metrics, name, "wrongful_removal_share") for name in cube.categories}
    corrected = people.corrected_precision(one.rows, cube, one.now, week.counted, settings.reviewers)
    proposed = operating_points(cube, one.proposed, settings)
    known = week.tables.outcomes.reviewed_at[week.tables.outcomes.reviewed_at <= week.as_of]
    texts = week.tables.posts.set_index("post_id").text if given.show_text else None
    added = {
        "week": week.name,
        "model_version": one.model,
        "production": {"known": given.champion is not None, "model_version": given.champion or None},
        "labels_until": None if known.empty else str(known.max().isoformat()),
        "served": [model.column(other) for other in week.served],
        "changes": changes.compare(cube, one.now, proposed, one.proposed),
        "recall": window.describe(one.proposed, settings.thresholds),
        "drift": drift.alarms(entry, [past for past in week.history if past["week"] < week.name], settings.drift),
        "history": [{name: past[name] for name in ("week", "model_version", "metrics")} for past in week.history],
        "appeals": people.describe_appeals(week.tables, one.rows, wrongful, week.as_of),
        "reviewers": people.describe_reviewers(week.counted, one.rows, settings.reviewers)
        | {"corrected": corrected, "deviating": {**week.deviating, "figures": changes.moved(one.metrics, without)}},
        "missing": changes.missing_evidence(one.proposed, one.metrics, corrected, settings.reviewers),
        "frozen": [json.loads(event.model_dump_json()) for event in (given.frozen or {}).values()],
        "examples": content.pick_examples(one.rows.rename(columns={"score": "prob"}), one.now, texts),
        "behaviour": [] if given.behaviour is None else behaviour.load(behaviour.folder_of(given.behaviour, one.model)),
        "otherwise_decided": scores.num_otherwise(one.rows, one.now),
        "thresholds_from": "the decisions' own actions" if given.thresholds is None else given.thresholds.name,
    }
    return Result(one.metrics, decision, week_story.extend(story, added))


def write_together(out: Path, week: str, results: Mapping[str, Result], entries: Sequence[drift.Entry]) -> None:
    """Write metrics.parquet of all models, state.json for the next week, and weekly.json, which names the reports."""
    table = pd.concat([result.metrics.assign(model_version=name) for name, result in results.items()], ignore_index=True)
    files.write_parquet(out / "metrics.parquet", table)
    files.write_json(out / "state.json", {"format": drift.FORMAT, "entries": list(entries)})
    models = [
        ModelSummary(
            model_version=name,
            folder=model.folder_name(name),
            decision=result.gate["decision"],
            headline=result.report["headline"],
            num_changes=result.report["weekly"]["num_changes"],
        )
        for name, result in results.items()
    ]
    WeeklySummary(week=week, models=models).write(out)  # last: where it is, everything is


class ModelSummary(BaseModel):
    """One model's report: the folder that holds it, its gate's decision, its headline, and how many changes of thresholds it proposes."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    model_version: str
    folder: str
    decision: str
    headline: str
    num_changes: int


class WeeklySummary(BaseModel):
    """A week's reports, in the order in which the models began to serve."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    week: str
    models: list[ModelSummary]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the summary of a folder that `upheld weekly` wrote; it is written last, so that where it is, everything is.

        Raises:
            BadUse: the file is missing or no such summary; names file and key.
        """
        path = folder / SUMMARY_FILE
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise BadUse(f"{path}: cannot be read ({error.strerror}); expected a folder that `upheld weekly` wrote") from error
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            raise BadUse(f"{path}: key {key}: {first['msg']}; write it again with `upheld weekly`") from error

    def write(self, folder: Path) -> None:
        """Write the summary, whole or not at all."""
        files.write_json(folder / SUMMARY_FILE, self.model_dump())
