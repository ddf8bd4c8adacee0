"""`upheld suspects`: the list and its plan, and the way of an answer: it changes what is learned, and no estimate."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from score_worlds import PARAMS
from weeks import deliver

from upheld import cli
from upheld.common.params import params as parameters
from upheld.evaluation.weekly import scores as week_scores
from upheld.evaluation.weekly.source import Source
from upheld.feature_store.contracts.snapshot import read_snapshot
from upheld.feature_store.contracts.tables import AUDIT_DRAWS
from upheld.feature_store.ingest import command as ingest
from upheld.feature_store.ingest import expectations
from upheld.feature_store.snapshot import stage as snapshot
from upheld.registry.runs import pin
from upheld.training import suspects
from upheld.training.loop import teacher

WEEKS, NUM = ("2026-W40", "2026-W41", "2026-W42"), 360
START = pd.Timestamp("2026-09-28", tz="UTC")
SETTINGS = parameters.load(PARAMS, ["policies=[spam]"])
END = START + pd.Timedelta(weeks=3)
WORDS = {0: ["hello", "friend", "lake", "otter", "stone"], 1: ["buy", "cheap", "prize", "click", "offer"]}


def world() -> dict[str, pd.DataFrame]:
    """Three weeks of texts that tell spam from talk, all reviewed by one of eight people; every twelfth verdict is wrong."""
    random = np.random.default_rng(0)
    truth = random.integers(0, 2, NUM)
    ids = [f"p{number:03}" for number in range(NUM)]
    times = START + pd.to_timedelta(np.arange(NUM) * (21 * 86400 // NUM), unit="s")
    texts = [" ".join(random.choice(WORDS[of], 6)) for of in truth]
    posts = pd.DataFrame({"post_id": ids, "created_at": times, "language": "en", "region": None, "text": texts})
    decisions = pd.DataFrame({"decision_id": ids, "post_id": ids, "decided_at": times, "category": "spam", "score": 0.2 + 0.6 * truth})
    decisions = decisions.assign(action=np.where(truth, "review", "none"), model_version="m-1")
    said = np.where(np.arange(NUM) % 12 == 0, 1 - truth, truth)
    outcomes = pd.DataFrame({"outcome_id": ids, "revision": 0, "post_id": ids, "category": "spam"})
    outcomes = outcomes.assign(
        verdict=np.where(said, "confirm_removal", "restore"),
        reviewer_id=random.choice([f"r{number}" for number in range(8)], NUM),
        reviewed_at=times + pd.Timedelta(hours=1),
        source=np.where(truth, "queue", "audit_passed"),
        inclusion_prob=0.5,
    )
    return {"posts": posts, "decisions": decisions, "review_outcomes": outcomes}


def take(store: Path, folder: Path, as_of: pd.Timestamp) -> None:
    assert ingest.main([str(folder), "--store", str(store), "--params", str(PARAMS), "--as-of", as_of.isoformat()]) == 0


def retrained(store: Path, name: str) -> Path:
    """A run's workspace as the stages snapshot and ngrams leave it."""
    workspace = store / "runs" / name
    (workspace / "models/ngrams").mkdir(parents=True)
    (workspace / "run.json").write_text("{}")
    pin.run(store, workspace / "data/inputs.json", SETTINGS)
    snapshot.run(SETTINGS, workspace / "data/inputs.json", store, workspace / "data/snapshot", workspace / "data/features.json")
    teacher.save_weight(workspace / "models/ngrams", 1.0, {}, {})
    return workspace


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("suspects")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(expectations, "judge", lambda *_: {"success": True, "checks": []})
        take(folder / "store", deliver(folder / "in", world()), END)
    retrained(folder / "store", "run-1")
    return folder / "store"


def call(store: Path, *arguments: str) -> int:
    return cli.main(["suspects", *arguments, "--store", str(store), "--params", str(PARAMS), "--set", "policies=[spam]"])


def listed(store: Path, run: str, out: Path, capsys: Any, *more: str) -> list[dict[str, Any]]:
    capsys.readouterr()  # of an ingest
    assert call(store, run, "--out", str(out), "--json", *more) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["out"] == str(out)
    return said["suspects"]


def estimates(store: Path) -> list[pd.DataFrame]:
    """What every weekly estimate rests on."""
    return [week_scores.build(Source(store, SETTINGS.ingest).read(week), week, END + pd.Timedelta(weeks=9)) for week in WEEKS]


def test_the_list_says_what_is_doubted_by_whom_it_was_said_and_why(store: Path, tmp_path: Path, capsys: Any) -> None:
    found = listed(store, "run-1", tmp_path / "plan.csv", capsys)
    of = {name: world()[name].set_index("post_id") for name in ("review_outcomes", "decisions")}
    examples = pd.read_parquet(store / "runs/run-1/data/snapshot/examples.parquet").set_index("post_id")
    assert 5 < len(found) < 40
    assert [row["quality"] for row in found] == sorted(row["quality"] for row in found)
    for row in found:
        review = of["review_outcomes"].loc[row["post_id"]]
        assert examples.loc[row["post_id"], "split"] == "train"
        assert row["label"] == (review.verdict == "confirm_removal") != (of["decisions"].loc[row["post_id"]].score > 0.5)
        assert row["reviewers"] == {review.reviewer_id: "a violation" if row["label"] else "no violation"}
        assert (row["category"], row["language"], pd.Timestamp(row["reviewed_at"])) == ("spam", "en", review.reviewed_at)
        assert f"{row['quality']:.1%}" in row["reason"] and f"{row['prob']:.1%}" in row["reason"]
        assert row["reason"].startswith("labelled a violation" if row["label"] else "labelled no violation")
    assert call(store, "run", "--out", str(tmp_path / "again.csv")) == 0
    shown = capsys.readouterr().out
    assert all(f"spam {row['post_id']} (en): {row['reason']}." in shown for row in found)
    assert f"{len(found)} labels for a second review" in shown


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_the_plan_has_the_audit_s_columns_no_probability_and_nobody_s_opinion(
    store: Path, tmp_path: Path, capsys: Any, suffix: str
) -> None:
    out = tmp_path / f"plan.{suffix}"
    found = listed(store, "run-1", out, capsys, "--as-of", "2026-11-01T00:00:00Z")
    rows = {"csv": pd.read_csv, "jsonl": lambda path: pd.read_json(path, lines=True), "parquet": pd.read_parquet}[suffix](out)
    assert list(rows) == AUDIT_DRAWS.names
    assert set(rows.post_id) == {row["post_id"] for row in found} and rows.draw_id.is_unique
    assert rows.inclusion_prob.isna().all() and set(rows.zone) == {"targeted"}
    assert set(pd.to_datetime(rows.drawn_at)) == {pd.Timestamp("2026-11-01", tz="UTC")}


def test_an_answer_changes_what_is_learned_and_no_estimate(store: Path, tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(expectations, "judge", lambda *_: {"success": True, "checks": []})
    found = listed(store, "run-1", tmp_path / "plan.parquet", capsys)
    weeks, before = estimates(store), pd.read_parquet(store / "runs/run-1/data/snapshot/examples.parquet")
    plan = pd.read_parquet(tmp_path / "plan.parquet")
    label = {row["post_id"]: row["label"] for row in found}
    answers = plan[["draw_id", "post_id", "category", "inclusion_prob"]].iloc[:-1]  # nobody came to the last one
    agreed = set(answers.post_id[::2])  # whose second reviewer says what the first one said
    answers = answers.assign(
        outcome_id="t" + answers.post_id,
        revision=0,
        verdict=["confirm_removal" if (label[name] == 1) == (name in agreed) else "restore" for name in answers.post_id],
        reviewer_id="second",
        reviewed_at=END + pd.Timedelta(hours=1),
        source=plan.zone,
    )
    (tmp_path / "back/review_outcomes").mkdir(parents=True)
    answers.to_json(tmp_path / "back/review_outcomes/answers.jsonl", orient="records", lines=True, date_format="iso")
    take(store, tmp_path / "back", END + pd.Timedelta(days=1))
    retrained(store, "run-2")
    after = pd.read_parquet(store / "runs/run-2/data/snapshot/examples.parquet")
    asked = after.post_id.isin(answers.post_id)
    pd.testing.assert_frame_equal(after[~asked], before[~asked], check_dtype=False)  # hard_label: a split vote has none
    assert asked.sum() == len(answers) > 5
    assert (after.num_reviewers[asked] == 2).all() and (before.num_reviewers[asked] == 1).all()
    moved = (after.label - before.label).abs() > 0.3
    assert set(after.post_id[moved]) == set(answers.post_id) - agreed
    drawn = ["post_id", "split", "inclusion_prob", "zone", "evidence"]
    pd.testing.assert_frame_equal(after[drawn], before[drawn])
    for was, now in zip(weeks, estimates(store), strict=True):
        pd.testing.assert_frame_equal(now, was)
    left = {row["post_id"] for row in listed(store, "run-1", tmp_path / "left.csv", capsys)}
    assert left == set(plan.post_id) - set(answers.post_id)  # what was judged again is not listed again
    assert set(pd.read_csv(tmp_path / "left.csv").draw_id) == set(plan.draw_id) - set(answers.draw_id)  # under the same names
    data = read_snapshot(store / "runs/run-2/data/snapshot")
    assert agreed & set(suspects.find(data, SETTINGS, 1.0, answers.head(0))["post_id"])  # the models doubt them as before
    assert not {row["post_id"] for row in listed(store, "run-2", tmp_path / "next.csv", capsys)} & set(answers.post_id)
    (tmp_path / "late/review_outcomes").mkdir(parents=True)
    late = answers.tail(1).assign(post_id=plan.post_id.iloc[-1], outcome_id="late", source="appeal", inclusion_prob=1.0, draw_id=None)
    late.to_json(tmp_path / "late/review_outcomes/appeal.jsonl", orient="records", lines=True, date_format="iso")
    take(store, tmp_path / "late", END + pd.Timedelta(days=2))
    assert listed(store, "run-1", tmp_path / "none.csv", capsys) == []  # somebody has looked since, for whatever reason
    assert len(pd.read_csv(tmp_path / "none.csv")) == 0


def test_bad_use_is_one_line(store: Path, tmp_path: Path, capsys: Any) -> None:
    for arguments, said in (
        (("run-9", "--out", "p.csv"), "there is no run 'run-9'"),
        (("run-1", "--out", "p.xlsx"), "expected a name that ends in"),
        (("run-1", "--out", "p.csv", "--as-of", "yesterday"), "--as-of 'yesterday'"),
    ):
        assert call(store, *arguments) == 2
        assert said in capsys.readouterr().err
    (store / "runs/half").mkdir()
    (store / "runs/half/run.json").write_text("{}")
    assert call(store, "half", "--out", str(tmp_path / "p.csv")) == 1
    assert "run the stage snapshot again" in capsys.readouterr().err and not (tmp_path / "p.csv").exists()
