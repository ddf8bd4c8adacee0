"""An earlier draw out of the ledger again, and a draw that gives nothing."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from score_worlds import PARAMS
from weeks import deliver, tables

from upheld.evaluation.audit import command as audit_sample
from upheld.feature_store.ingest import command as ingest
from upheld.feature_store.ledger.ledger import Ledger

SECRET = "0123456789abcdef"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ledger with a week of decisions, and nothing judged."""
    monkeypatch.setenv(audit_sample.SECRET_VARIABLE, SECRET)
    made = tables(400)
    made["review_outcomes"] = made["review_outcomes"].head(1)
    delivery = deliver(tmp_path / "in", made)
    arguments = [str(delivery), "--store", str(tmp_path / "store"), "--params", str(PARAMS), "--as-of", "2026-10-30T00:00:00Z"]
    assert ingest.main(arguments) == 0
    return tmp_path / "store"


def call(store: Path, *arguments: str) -> int:
    return audit_sample.main(["--params", str(PARAMS), "--store", str(store), *arguments])


def draw(store: Path, budget: int, out: Path, *options: str) -> int:
    return call(store, "--decisions", str(store.parent / "in" / "decisions"), "--budget", str(budget), "--out", str(out), *options)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_draw_comes_again_byte_for_byte_by_any_of_its_names(store: Path, tmp_path: Path, monkeypatch: Any, suffix: str) -> None:
    first, second = (tmp_path / f"{name}.{suffix}" for name in ("first", "second"))
    assert draw(store, 40, first) == 0
    assert draw(store, 120, second) == 0
    recorded = Ledger(store).commit
    monkeypatch.delenv(audit_sample.SECRET_VARIABLE)  # nothing is drawn, so nothing is secret
    rows = {"csv": pd.read_csv, "jsonl": lambda path: pd.read_json(path, lines=True), "parquet": pd.read_parquet}[suffix](first)
    assert len(rows) > 20
    assert set(rows.zone) <= {"auto_remove", "review", "none"}
    assert list(rows) == ["draw_id", "post_id", "category", "language", "zone", "inclusion_prob", "drawn_at"]
    time = pd.Timestamp(rows.drawn_at.iloc[0]).isoformat()
    for name, written in (("last", second), (rows.draw_id.iloc[-1], first), (time, first)):
        again = tmp_path / f"again.{suffix}"
        assert call(store, "--again", name, "--out", str(again)) == 0
        assert again.read_bytes() == written.read_bytes(), name
    assert Ledger(store).commit == recorded  # nothing was drawn anew


def test_the_formats_hold_the_same_rows(store: Path, tmp_path: Path) -> None:
    for suffix in ("csv", "jsonl", "parquet"):
        out = tmp_path / f"plan.{suffix}"
        assert (draw(store, 40, out) if suffix == "csv" else call(store, "--again", "last", "--out", str(out))) == 0
    rows = [json.loads(line) for line in (tmp_path / "plan.jsonl").read_text().splitlines()]
    table = pd.read_parquet(tmp_path / "plan.parquet")
    assert table.assign(drawn_at=table.drawn_at.map(lambda at: at.isoformat())).to_dict("records") == rows
    text = pd.read_csv(tmp_path / "plan.csv")
    assert (text.inclusion_prob == table.inclusion_prob).all()
    assert text.draw_id.tolist() == table.draw_id.tolist()


def test_a_draw_that_gives_nothing_says_why_and_how_to_get_the_last_one(store: Path, tmp_path: Path, capsys: Any) -> None:
    assert draw(store, 60, tmp_path / "one.parquet") == 0
    num = len(pd.read_parquet(tmp_path / "one.parquet"))
    capsys.readouterr()
    assert draw(store, 60, tmp_path / "two.csv") == 1
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert "drew 0 of " in line
    assert "though 60 are expected" in line
    assert f"{num} were drawn before, and nothing is drawn twice" in line
    assert "`upheld audit-sample --again last --out FILE`" in line
    assert not (tmp_path / "two.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--again", "last"], "no draw is recorded in"),
        (["--again", "last", "--budget", "5"], "leave out --decisions, --budget and --as-of"),
        (["--budget", "5"], "a draw needs --decisions and --budget"),
        ([], "--again DRAW writes an earlier one again"),
    ],
)
def test_bad_use_is_one_line(store: Path, tmp_path: Path, capsys: Any, arguments: list[str], said: str) -> None:
    capsys.readouterr()
    assert call(store, *arguments, "--out", str(tmp_path / "plan.csv")) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not (tmp_path / "plan.csv").exists()


def test_an_unknown_draw_names_those_there_are_and_two_never_share_a_time(store: Path, tmp_path: Path, capsys: Any) -> None:
    at = "2026-11-02T00:00:00Z"
    assert draw(store, 40, tmp_path / "one.csv", "--as-of", at) == 0
    for name in ("a_0123456789abcdef0123", "2026-11-03T00:00:00Z"):
        assert call(store, "--again", name, "--out", str(tmp_path / "x.csv")) == 2
        assert (
            "no such draw; expected `last`, a draw_id, or the time of a draw, the latest are 2026-11-02T00:00:00+00:00"
            in capsys.readouterr().err
        )
    assert draw(store, 120, tmp_path / "two.csv", "--as-of", at) == 2
    assert "a draw of that time is recorded" in capsys.readouterr().err
    assert not (tmp_path / "two.csv").exists()


def test_the_table_is_readable_at_80_columns(store: Path, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    capsys.readouterr()
    assert draw(store, 60, tmp_path / "plan.csv") == 0
    told = capsys.readouterr().err.split("What the labels buy:")
    rows = [line for line in told[0].splitlines() if line.startswith("│")]
    assert [line.split("│")[2].strip() for line in rows] == ["removed", "queued", "passed"]  # one line each
    assert all(len(line) <= 80 for line in "".join(told).splitlines() if not line.startswith("Plan:"))
    assert "auto_remove" not in "".join(told)
    assert told[1].count("spam, ") == 3
