"""The command line: every subcommand takes the common options, and tells so."""

import json
import re
from pathlib import Path

import pytest

import cli

COMMON = ("--params", "--set", "--store", "UPHELD_STORE", "--json")
NAMES = (
    "ingest", "calibrate", "evaluate", "audit-sample", "weekly", "score", "retrain", "runs", "rerun", "diff", "freeze", "unfreeze", "up",
    "simulate-weeks", "promote", "rollback", "approvals", "behave", "sample-data", "dsa-export", "demo",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_every_command_takes_the_common_options(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([name, "--help"]) == 0
    said = capsys.readouterr().out
    assert f"upheld {name}" in said
    assert [option for option in COMMON if not re.search(rf"{option}\b", said)] == []


def test_the_store_is_the_option_s_else_the_environment_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "runs" / f"run-{name}").mkdir(parents=True)
        (tmp_path / name / "runs" / f"run-{name}" / "run.json").write_text('{"created_at": "2026-10-05T03:00:00+00:00"}')
    monkeypatch.setenv("UPHELD_STORE", str(tmp_path / "a"))
    for options, expected in (([], "run-a"), (["--store", str(tmp_path / "b")], "run-b")):
        assert cli.main(["runs", "--json", *options]) == 0
        assert [run["name"] for run in json.loads(capsys.readouterr().out)] == [expected]


def test_help_lists_every_command_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    said = capsys.readouterr().out
    listed = re.findall(r"^  ([a-z-]+(?: [a-z]+)?)  ", said, re.MULTILINE)
    assert sorted(listed) == sorted(cli.COMMANDS)
    assert set(NAMES) <= set(listed)
    assert all(len(purpose) > 20 for _, purpose in cli.COMMANDS.values())


def test_an_unknown_command_is_bad_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evalute"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
