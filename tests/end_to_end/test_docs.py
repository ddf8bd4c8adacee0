"""`make demo QUICK=1` ends well, and then every command in a code block of the documents works as it is written, on the demo's store."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from upheld.registry.runs import history as runs

ROOT = Path(__file__).resolve().parents[2]
# Each is read on its own, after `make demo`; in this order the fewest stages run again.
DOCUMENTS = ("README.md", "docs/auditor.md", "docs/engineer.md", "docs/lead.md", "docs/logos.md")
RETRAIN = ".venv/bin/upheld retrain"  # as it is, so with nothing to do after the demo
NOT_RUN = {
    "make demo": "the store is what it made",
    "make test": "this runs within the tests",
    "make setup": "the tests run in what it installed",
    ".venv/bin/upheld up": "serves until it is stopped; tests/registry/servers/test_up.py starts and stops it",
}


def commands(document: str) -> list[str]:
    """The commands of the code blocks of a document that name no language, continued lines joined, comments left out."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / document).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = "".join(content for language, content in blocks if not language).replace("\\\n", " ").splitlines()
    return [command for line in lines if (command := re.split(r"(?:^|\s)# ?", line)[0].strip())]


def test_nothing_is_left_out_that_no_document_says() -> None:
    said = [command for document in DOCUMENTS for command in commands(document)]
    assert {*NOT_RUN, RETRAIN} <= set(said)
    assert len([command for command in said if command.startswith(".venv/bin/upheld ")]) > 20


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which the demo has ended; versions, approvals and draws are added to it."""
    made = tmp_path_factory.mktemp("demo") / "store"
    subprocess.run(["make", "demo", "QUICK=1"], cwd=ROOT, env=os.environ | {"UPHELD_STORE": str(made)}, check=True)
    return made


def nothing_was_left_to_do(store: Path, said: str) -> bool:
    """Whether the newest retrain, which printed `said`, ran with the demo's own parameters, and found everything made and registered."""
    tasks = runs.run(store)[0].tasks
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    return (
        f"This store's own parameters apply ({store}/params.yaml)" in said
        and {tasks[name]["status"] for name in stages} <= {"restored", "unchanged"}
        and (tasks["register"]["model"], tasks["register"]["status"]) == ("upheld-moderation/1", "unchanged")
    )


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_every_command_of_the_documents_works_after_the_demo(store: Path, tmp_path: Path) -> None:
    assert [run.state for run in runs.run(store)][-1:] == ["registered"], f"{store}: no demo has ended here"
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / "store").symlink_to(store)
    environment = os.environ | {"UPHELD_STORE": str(store)}
    failed = []
    for document in DOCUMENTS:
        exports: list[str] = []
        for command in commands(document):
            if command in NOT_RUN:
                continue
            if command.startswith("export "):
                exports.append(command)
                continue
            named = re.sub(r"\bRUN\b", runs.run(store)[0].name, command)
            script = "\n".join([*exports, named])
            done = subprocess.run(["bash", "-ec", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
            print(f"$ {command}\n{done.stdout}{done.stderr}")
            if done.returncode:
                failed.append(f"{document}: {command}: exit code {done.returncode}: {done.stderr[-300:]}")
            elif command == RETRAIN and not nothing_was_left_to_do(store, done.stderr):
                failed.append(f"{document}: {command}: did again what the demo had done: {done.stderr[-300:]}")
    assert failed == []
