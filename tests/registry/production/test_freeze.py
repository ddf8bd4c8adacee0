"""Freezing a category: logged, enforced when posts are scored, shown until lifted."""

import json
import threading
from pathlib import Path

import pytest
from score_worlds import PARAMS

from upheld.feature_store.contracts.workspace import Event
from upheld.feature_store.decisions import freezes
from upheld.registry import score as serve
from upheld.registry.production import freeze
from upheld.registry.runs import register
from upheld.training.scoring import score


def call(command, store: Path, *arguments: str) -> int:
    return command([*arguments, "--store", str(store), "--params", str(PARAMS)])


def test_freeze_and_unfreeze_are_logged_with_who_when_and_why(tmp_path, capsys) -> None:
    assert call(freeze.main, tmp_path, "spam", "--reason", "adverts of  a shelter\nare removed", "--who", "Ada", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["changed"]
    assert told["frozen"]["spam"]["who"] == "Ada"
    assert list(freezes.frozen(tmp_path)) == ["spam"]
    assert call(freeze.unfreeze_main, tmp_path, "spam", "--reason", "fixed", "--who", "Bo") == 0
    assert freezes.frozen(tmp_path) == {}
    events = freezes.read(tmp_path)
    assert [(event.event, event.who, event.reason) for event in events] == [
        ("freeze", "Ada", "adverts of a shelter are removed"),
        ("unfreeze", "Bo", "fixed"),
    ]
    assert events[0].at < events[1].at


def test_doing_it_twice_changes_nothing(tmp_path, capsys) -> None:
    for expected in (True, False):
        assert call(freeze.main, tmp_path, "spam", "--reason", "x", "--json") == 0
        assert json.loads(capsys.readouterr().out)["changed"] is expected
    assert len(freezes.read(tmp_path)) == 1
    assert call(freeze.unfreeze_main, tmp_path, "hate_speech", "--reason", "x", "--json") == 0
    assert json.loads(capsys.readouterr().out)["changed"] is False


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("spma", "--reason", "x"), "'spma': unknown; expected one of hate_speech, spam"),
        (("spam", "--reason", " "), "--reason: expected 1 to 500"),
        (("spam", "--reason", "x" * 501), "--reason: expected 1 to 500"),
        (("spam",), "--reason"),
    ],
)
def test_bad_use_freezes_nothing(tmp_path, capsys, arguments, said) -> None:
    assert call(freeze.main, tmp_path, *arguments) == 2
    assert said in capsys.readouterr().err
    assert freezes.read(tmp_path) == []


def test_a_damaged_log_is_never_taken_for_an_empty_one(tmp_path, capsys) -> None:
    freezes.path_of(tmp_path).write_text('{"events": [{"category": "spam"')
    assert call(freeze.main, tmp_path, "spam", "--reason", "x") == 2
    assert "restore it by hand" in capsys.readouterr().err


def test_freezes_at_the_same_time_are_all_kept(tmp_path) -> None:
    names = [f"c{number}" for number in range(12)]
    moment = "2026-10-20T08:00:00Z"
    events = [Event(category=name, event="freeze", who="x", at=moment, reason="y") for name in names]
    threads = [threading.Thread(target=freezes.append, args=(tmp_path, event)) for event in events]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(freezes.frozen(tmp_path)) == set(names)


def test_scoring_is_told_what_is_frozen(make_workspace, tmp_path, monkeypatch) -> None:
    store = tmp_path / "store"
    register.run(make_workspace("one"), store)
    given = []
    monkeypatch.setattr(score, "load_model", lambda *arguments: given.append(arguments[-1]))
    serve.load_model(store, None)
    for category in ("spam", "hate_speech"):  # the model knows only the first
        assert call(freeze.main, store, category, "--reason", "x") == 0
    serve.load_model(store, None)
    assert call(freeze.unfreeze_main, store, "spam", "--reason", "x") == 0
    serve.load_model(store, None)
    assert given == [[], ["spam"], []]


def test_a_decision_made_while_frozen_is_another_one() -> None:
    key = ("p1", "spam", "upheld-moderation/3", "upheld-thresholds/5")
    assert score.decision_id(*key) != score.decision_id(*key, frozen=True)
