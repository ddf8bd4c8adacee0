"""Holding a reviewer: logged, reversible, and from then on in no label, estimate or history of an author, visibly."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from upheld.common.errors import BadUse
from upheld.feature_store.contracts.workspace import Hold
from upheld.feature_store.decisions import holds
from upheld.feature_store.ledger import verdicts
from upheld.registry.production import proposal_text, reviewers

NOW = datetime(2026, 10, 20, 8, tzinfo=UTC)
HOLD = Hold(
    reviewer_id="rv|1", event="hold", since=datetime(2026, 10, 5, tzinfo=UTC), who="Ana <b>", at=NOW, reason="restores | everything"
)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store whose ledger has two reviewers."""
    days = [datetime(2026, 10, day, tzinfo=UTC) for day in (1, 5, 12, 12)]
    rows = pa.table(
        {
            "reviewer_id": ["rv|1", "rv|1", "rv|1", "rv2"],
            "verdict": ["confirm_removal", "restore", "restore", "escalate"],
            "reviewed_at": pa.array(days, pa.timestamp("us", "UTC")),
            "source": ["queue", "queue", "appeal", "audit_removed"],
        }
    )

    class Book:
        def __init__(self, folder: Path) -> None:
            assert folder == tmp_path

        def read(self, table: str, columns: list[str]) -> pa.Table:
            assert table == "review_outcomes"
            return rows.select(columns)

    monkeypatch.setattr(reviewers, "Ledger", Book)
    return tmp_path


def call(command, store: Path, *arguments: str) -> int:
    return int(command([*arguments, "--store", str(store)]))


def test_a_hold_and_its_release_are_logged_with_who_when_and_why(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    since = "2026-10-05T00:00:00Z"
    assert call(reviewers.hold_main, store, "rv|1", "--reason", "restores\n everything", "--since", since, "--who", "Ana", "--json") == 0
    assert json.loads(capsys.readouterr().out)["changed"] is True
    assert call(reviewers.hold_main, store, "rv|1", "--reason", "again", "--json") == 0
    assert json.loads(capsys.readouterr().out)["changed"] is False
    assert call(reviewers.list_main, store) == 0
    held = "rv|1  2 verdicts, 50% confirm, 2026-10-01 to 2026-10-05  held from 2026-10-05 on by Ana: restores everything"
    assert held in capsys.readouterr().err
    assert call(reviewers.release_main, store, "rv|1", "--reason", "was the wrong language", "--who", "Bo") == 0
    assert "Held now: nobody." in capsys.readouterr().err
    assert call(reviewers.show_main, store, "rv|1", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [(event["event"], event["who"]) for event in told["events"]] == [("hold", "Ana"), ("release", "Bo")]
    assert told["weeks"] == [
        {"week": "2026-W40", "confirm_removal": 1, "restore": 0},
        {"week": "2026-W41", "confirm_removal": 0, "restore": 1},
    ]
    assert len(holds.read(store)) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("rv3", "--reason", "x"), "'rv3': no verdict in the ledger; `upheld reviewers list`"),
        (("rv2", "--reason", " "), "--reason: expected 1 to 500"),
        (("rv2", "--reason", "x", "--since", "yesterday"), "--since"),
        (("rv2",), "--reason"),
    ],
)
def test_bad_use_holds_nobody(store: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str) -> None:
    assert call(reviewers.hold_main, store, *arguments) == 2
    assert said in capsys.readouterr().err
    assert holds.held(store) == {}
    assert call(reviewers.show_main, store, "rv3") == 2


def test_a_damaged_log_is_never_taken_for_an_empty_one(store: Path) -> None:
    holds.path_of(store).write_text('{"events": [{"reviewer_id": "rv2"')
    with pytest.raises(BadUse, match="is not the log of held reviewers"):
        holds.held(store)


def test_verdicts_from_the_holds_time_on_are_left_out() -> None:
    rows = pd.DataFrame(
        {
            "reviewer_id": ["rv|1", "rv|1", "rv|1", "rv2"],
            "reviewed_at": pd.to_datetime(["2026-10-04T23:59:59Z", "2026-10-05T00:00:00Z", "2026-10-19T00:00:00Z", "2026-10-19T00:00:00Z"]),
        }
    )
    assert verdicts.without_held(rows, [HOLD]).index.tolist() == [0, 3]
    assert verdicts.without_held(rows, []).equals(rows)


def test_the_question_names_who_is_held_and_no_markup_of_theirs() -> None:
    (line,) = proposal_text.held({HOLD.reviewer_id: HOLD})
    assert "from 2026-10-05 on count nowhere" in line
    assert "Ana <b>" not in line and " | " not in line
