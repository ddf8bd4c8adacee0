"""The command line: every subcommand takes the options that it reads, and tells so."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from upheld import cli
from upheld.common.command import PARAM_OPTIONS, Output, ParamOptions, command

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("evaluation", "feature_store", "registry", "training")
NAMES = (
    "ingest", "calibrate", "evaluate", "audit-sample", "weekly", "score", "retrain", "runs", "rerun", "diff", "freeze", "unfreeze", "up",
    "simulate-weeks", "promote", "rollback", "approvals", "behave", "sample-data", "dsa-export", "demo",
)  # fmt: skip
# What each command reads of what all could share; `--params` brings `--set`.
TAKES = {
    ("--params", "--store"): (
        "audit-sample", "behave", "demo", "dsa-export", "evaluate", "features", "freeze", "ingest", "logo compose", "logo detect",
        "logo evaluate", "logo outcomes", "logo train", "rerun", "retrain", "sample-data", "score", "simulate-weeks", "suspects",
        "unfreeze", "weekly",
    ),
    ("--params",): ("calibrate", "logo import"),
    ("--store",): (
        "approvals", "diff", "promote", "reviewers hold", "reviewers list", "reviewers release", "reviewers show", "rollback", "runs",
        "store move", "up",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_a_command_tells_of_the_options_that_it_reads_and_takes_no_others(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*name.split(), "--help"]) == 0
    said = capsys.readouterr().out
    assert f"upheld {name}" in said
    options = {option for option in ("--params", "--set", "--store", "UPHELD_STORE", "--json") if re.search(rf"{option}\b", said)}
    shared = next(shared for shared, names in TAKES.items() if name in names)
    assert options == {
        "--json",
        *(("--params", "--set") if "--params" in shared else ()),
        *(("--store", "UPHELD_STORE") if "--store" in shared else ()),
    }


def ignored(source: str) -> list[str]:
    """Parameters that a function under `@command` declares and never reads."""
    found = []
    for function in ast.walk(ast.parse(source)):
        calls = [item.func for item in getattr(function, "decorator_list", ()) if isinstance(item, ast.Call)]
        if isinstance(function, ast.FunctionDef) and any(isinstance(call, ast.Name) and call.id == "command" for call in calls):
            inner = [node for line in function.body for node in ast.walk(line) if isinstance(node, ast.Name)]
            read = {node.id for node in inner if isinstance(node.ctx, ast.Load)}
            found += [argument.arg for argument in (*function.args.args, *function.args.kwonlyargs) if argument.arg not in read]
    return found


def test_no_command_declares_an_option_that_it_never_reads() -> None:
    files = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    sources = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in files}
    with_commands = {name for name, source in sources.items() if re.search(r"^ *@command\(", source, re.MULTILINE)}
    assert {
        f"{place.partition(':')[0].removeprefix('upheld.').replace('.', '/')}.py" for place, _ in cli.COMMANDS.values()
    } <= with_commands
    assert [f"{name}: {option}" for name in sorted(with_commands) for option in ignored(sources[name])] == []
    everything = {name for name, source in sources.items() if re.search(r"^(def main\(argv|main = )", source, re.MULTILINE)}
    assert everything <= with_commands  # nobody goes round the scaffold
    assert ignored(
        '@command("x")\ndef main(store: StoreFolder = STORE_FOLDER, asked: ParamOptions = PARAM_OPTIONS) -> None:\n    print(asked)'
    ) == ["store"]


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


def test_the_core_s_modules_come_without_typer() -> None:
    """A command brings Typer; what is computed with scores does not need it, nor do errors and the terminal."""
    modules = [
        "upheld.common.errors",
        "upheld.common.terminal",
        "upheld.common.progress",
        "upheld.evaluation.audit.tables",
        "upheld.evaluation.metrics.table",
    ]
    script = f"import importlib, sys\nfor name in {modules}: importlib.import_module(name)\nsys.exit('typer' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT).returncode == 0


def test_the_commands_on_a_model_come_without_the_networks() -> None:
    """A mistake in what they are asked is said before torch is loaded."""
    script = "import sys, upheld.registry.behave, upheld.registry.score\nsys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT).returncode == 0


def test_an_output_is_one_line_of_json_or_shown_and_a_failure_is_told_after_it(capsys: pytest.CaptureFixture[str]) -> None:
    @command("x")
    def main(asked: ParamOptions = PARAM_OPTIONS, failure: str = "") -> Output:
        """Tell what was asked for."""
        return Output({"file": str(asked.file), "overrides": asked.overrides}, lambda: print("shown"), failure or None)

    assert main(["--json", "--params", "p.yaml", "--set", "a.b=1", "--set", "c=2"]) == 0
    assert capsys.readouterr() == ('{"file": "p.yaml", "overrides": ["a.b=1", "c=2"]}\n', "")
    assert main(["--failure", "half of it"]) == 1
    assert capsys.readouterr() == ("shown\n", "upheld x: half of it\n")
