"""Labels pooled over weeks: which weeks, that pooling is counting, and that it certifies what one week cannot."""

import json
from pathlib import Path

import pandas as pd
import pytest
from score_worlds import PARAMS, settings
from weeks import MONDAY, deliver, tables

from upheld.evaluation.statistics import drift
from upheld.evaluation.weekly import command as weekly
from upheld.evaluation.weekly import window

NAMES = [f"2026-W{number}" for number in range(43, 48)]
QUIET, LOUD = 0.0, 1e9


def entry(week: str, model: str = "m", category: str = "spam", statistic: float = QUIET) -> dict:
    cell = {"category": category, "language": "en", "precision": [statistic], "calibration": [QUIET]}
    counts = {"errors": 0, "removals": 0, "violations": 0, "expected": 0.0, "labels": 0}
    return {"week": week, "model_version": model, "cells": [cell | counts]}


def chosen(now: dict, before: list[dict], most: int = 13) -> tuple[tuple[str, ...], str | None]:
    found = window.choose("spam", now, before, settings(f"thresholds.window_weeks={most}"))
    return found.weeks, found.reason


def test_weeks_of_the_same_model_are_pooled_up_to_the_limit() -> None:
    weeks = [f"2026-W{number}" for number in range(20, 40)]
    before = [entry(week) for week in weeks[:-1]]
    assert chosen(entry(weeks[-1]), before) == (tuple(weeks[-13:]), None)
    assert chosen(entry(weeks[-1]), before, 8) == (tuple(weeks[-8:]), None)
    assert chosen(entry(weeks[3]), before[:3]) == (tuple(weeks[:4]), "the model has not served longer")
    assert chosen(entry(weeks[3], "n"), before[:3]) == ((weeks[3],), "no earlier week of this model is known")


def test_an_alarm_ends_the_window() -> None:
    assert drift.alarm_threshold(2, 1.0) < LOUD
    quiet = [entry("2026-W41"), entry("2026-W42")]
    assert chosen(entry("2026-W43", statistic=LOUD), quiet)[0] == ("2026-W43",)
    past = [entry("2026-W40"), entry("2026-W41", statistic=LOUD), entry("2026-W42")]
    weeks, reason = chosen(entry("2026-W43"), past)
    assert weeks == ("2026-W42", "2026-W43")
    assert reason == "a drift alarm stood in 2026-W41"
    other = entry("2026-W42", category="hate_speech", statistic=LOUD)
    assert chosen(entry("2026-W43"), [entry("2026-W41"), other])[0] == ("2026-W41", "2026-W42", "2026-W43")


@pytest.fixture(scope="module")
def five_weeks(tmp_path_factory) -> tuple[Path, dict[str, pd.DataFrame]]:
    """Five weeks of one model with a steady recall of .95, reported in order."""
    folder = tmp_path_factory.mktemp("window")
    made = [tables(seed=number, start=MONDAY + pd.Timedelta(weeks=number)) for number in range(5)]
    again = made[1]["decisions"].head(40)  # posts of the second week that the third week scored again
    again = again.assign(decision_id="again-" + again.decision_id, decided_at=made[2]["decisions"].decided_at.iloc[0])
    made[2]["decisions"] = pd.concat([made[2]["decisions"], again], ignore_index=True)
    delivery, state = deliver(folder / "in", *made), []
    never = "drift.false_alarms_per_year=1e-300"  # this world's scores never meant what they say, which is no drift between weeks
    for name in NAMES:
        given = ["--week", name, "--delivery", str(delivery), "--out", str(folder / name), "--params", str(PARAMS), *state]
        assert weekly.main([*given, "--store", str(folder / "store"), "--set", "thresholds.recall_target=0.9", "--set", never]) == 0
        state = ["--state", str(folder / name / "state.json")]
    return folder, {name: pd.concat([of[name] for of in made]) for name in made[0]}


def review(folder: Path, name: str) -> dict:
    return json.loads((folder / name / "m-1" / "thresholds.json").read_text())["categories"]["spam"]["review"]


def test_a_window_certifies_what_its_first_week_could_not(five_weeks) -> None:
    folder, _ = five_weeks
    first, last = review(folder, NAMES[0]), review(folder, NAMES[4])
    assert (first["outcome"], first["weeks"]) == ("kept", NAMES[:1])
    assert first["need_n"] > first["n"]
    assert (last["outcome"], last["weeks"]) == ("certified", NAMES)
    assert last["bound"] >= 0.9
    told = json.loads((folder / NAMES[4] / "m-1" / "report.json").read_text())
    assert told["weekly"]["recall"][0]["weeks"] == NAMES
    assert any("Counted: 5 weeks; " in item["text"] for item in told["attention"])


def test_the_pooled_labels_are_those_of_all_weeks_each_counted_once(five_weeks) -> None:
    folder, made = five_weeks
    both = json.loads((folder / NAMES[4] / "m-1" / "thresholds.json").read_text())["categories"]["spam"]
    last, removal = both["review"], both["auto_remove"]
    latest = made["decisions"].sort_values("decided_at", kind="stable").drop_duplicates("post_id", keep="last")
    rows = latest.merge(made["review_outcomes"], on="post_id")
    assert last["n"] == (rows.score < last["threshold"]).sum()
    assert removal["weeks"] == NAMES
    tested = min(removal["path"], key=lambda step: step["threshold"])
    assert tested["n"] == (rows.score >= tested["threshold"]).sum()
    page = (folder / NAMES[4] / "m-1" / "report.html").read_text()
    assert page.count(f"of 5 weeks, from {NAMES[0]} on") == 2


def test_without_the_state_of_the_week_before_a_week_stands_alone(five_weeks, tmp_path) -> None:
    folder, _ = five_weeks
    arguments = ["--week", NAMES[4], "--delivery", str(folder / "in"), "--out", str(tmp_path), "--params", str(PARAMS)]
    assert weekly.main([*arguments, "--store", str(tmp_path / "store")]) == 0
    told = json.loads((tmp_path / "m-1" / "report.json").read_text())["weekly"]["recall"][0]
    assert told["weeks"] == NAMES[4:]
    assert told["window_reason"] == "no earlier week of this model is known"
