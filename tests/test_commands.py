"""The command line as DESIGN names it: every subcommand takes the common options, and tells so."""

import re

import pytest

import cli

COMMON = ("--params", "--set", "--store", "--json")
# DESIGN section 6, those that exist by now
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
