"""In a language that thresholds.json does not list, reports describe what serving does with its posts."""

import json
from pathlib import Path

import numpy as np
import pytest
from score_worlds import settings, table, thresholds
from weeks import deliver, tables

from upheld.evaluation import evaluate
from upheld.evaluation.weekly import command as weekly
from upheld.evaluation.weekly.source import Source
from upheld.feature_store.decisions.thresholds import Thresholds

REMOVES = {"review": "review", "pool": "auto_remove", None: "review"}  # an absent key is the cautious one


@pytest.mark.parametrize("today", ["review", "pool"])
@pytest.mark.parametrize("certified", ["review", "pool", None])
def test_an_evaluation_goes_by_the_thresholds_and_not_by_the_params_of_today(tmp_path: Path, certified: str | None, today: str) -> None:
    content = _content(certified, spam=(0.4, 0.9, ()), hate_speech=(0.5, None, ()))
    table(300, languages=("en", "fa", "sw")).to_parquet(tmp_path / "scores.parquet")
    (tmp_path / "thresholds.json").write_text(json.dumps(content))
    inputs = evaluate.Inputs(tmp_path / "scores.parquet", tmp_path / "thresholds.json")
    story = evaluate.run(settings(f"thresholds.unknown_language={today}"), inputs, tmp_path / "out").report
    spam = next(category for category in story["categories"] if category["name"] == "spam")
    (served,) = Thresholds.parse(content).route("spam", np.array([0.95]), ["fa"], frozen=False)
    assert served == REMOVES[certified]
    assert ("fa" in spam["languages_off"]) is (served == "review")


@pytest.mark.parametrize("today", ["review", "pool"])
@pytest.mark.parametrize("certified", ["review", "pool", None])
def test_a_week_counts_its_posts_as_the_thresholds_in_force_route_them(tmp_path: Path, certified: str | None, today: str) -> None:
    content = _content(certified, spam=(0.4, 0.5, ()))
    content["categories"]["spam"]["auto_remove"]["languages"] = {}
    (tmp_path / "thresholds.json").write_text(json.dumps(content))
    given = settings(f"thresholds.unknown_language={today}")
    source = Source(tmp_path / "store", given.ingest, deliver(tmp_path / "in", tables()))
    inputs = weekly.Inputs(source, tmp_path / "thresholds.json")
    (result,) = weekly.run(given, "2026-W43", inputs, tmp_path / "out", as_of=weekly.pd.Timestamp.max.tz_localize("UTC")).values()
    (change,) = result.report["weekly"]["changes"]
    assert (change["volume_now"]["auto_remove"] > 0) is (REMOVES[certified] == "auto_remove")


def _content(unknown_language: str | None, **by_category: tuple[float, float | None, tuple[str, ...]]) -> dict:
    return thresholds(**by_category) | ({} if unknown_language is None else {"unknown_language": unknown_language})
