"""`dvc metrics`, `dvc plots` and `dvc params diff` on the real dvc.yaml: in a git checkout, and `dvc repro` where there is no git."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from upheld.dags.runner.workspace import DVC_SETTINGS

REPOSITORY = Path(__file__).resolve().parents[1]
STAGES = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
COPIED = ("dvc.yaml", "params.yaml", ".gitignore", ".dvcignore", ".dvc/config")
MADE = ("text", "image", "audio", "logo", "evaluate")
EPOCHS = [{"epoch": n, "train_loss": 1 / n, "loss": 2 / n, "roc_auc": {"spam": 0.5}} for n in (1, 2)]
HEAD_ALONE = [{"epoch": 0, "train_loss": None, "loss": 0.5, "roc_auc": {"spam": None}}]
PHOTOS = [{"epoch": n, "train_loss": 1 / n, "map_50": n / 4} for n in (1, 2)]

Files = dict[str, Any]


def outputs(area: float) -> dict[str, Files]:
    """What the stages MADE write: JSON by path, of a run whose challenger has that ROC-AUC; nothing to hear was learned from."""
    written: dict[str, Files] = {
        "text": {"models/text/metadata.json": {"history": EPOCHS, "params": {"sizes": [1, 2]}}},
        "image": {"models/image/metadata.json": {"history": HEAD_ALONE}},
        "audio": {"models/audio/metadata.json": {"trained": False}},
        "logo": {"models/logo/metadata.json": {"history": PHOTOS}, "data/logo_detections.parquet": []},
        "evaluate": {"data/evaluation/metrics.json": {"roc_auc/spam/all": area, "map_50/logo/all": 0.5}},
    }
    return written


class Project:
    """A folder with dvc.yaml and everything that its stages read; the command of a stage copies what lies ready for it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.ready = folder / "project", folder / "ready"
        for name in COPIED:
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, self.root / name)
        for dep in (self.root / dep for name in MADE for dep in STAGES[name]["deps"]):
            file = dep if dep.suffix else dep / "content"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("{}")
        python = folder / "bin/python"
        python.parent.mkdir()
        python.write_text(f'#!/bin/sh\ncp -R "{self.ready}/$2/." .\n')
        python.chmod(0o755)
        monkeypatch.setenv("PATH", str(python.parent), prepend=":")

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(arguments, cwd=self.root, capture_output=True, text=True)

    def dvc(self, *arguments: str) -> str:
        done = self.run(sys.executable, "-P", "-m", "dvc", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def git(self, *arguments: str) -> str:
        done = self.run("git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def repro(self, area: float) -> None:
        """Run the stages MADE."""
        shutil.rmtree(self.ready, ignore_errors=True)
        for stage, files in outputs(area).items():
            for name, content in files.items():
                path = self.ready / STAGES[stage]["cmd"].split()[2] / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(content))
        self.dvc("repro", "--single-item", *MADE)

    def curves(self, *arguments: str) -> dict[str, set[tuple[str, str, int, float | None]]]:
        """Points that `dvc plots` draws, by plot: revision, figure, epoch, value; a plot that it cannot draw is not there."""
        found: dict[str, set[tuple[str, str, int, float | None]]] = {}
        for name, drawn in json.loads(self.dvc("plots", *arguments, "--json"))["data"].items():
            for chart in (one["content"] for one in drawn):
                x, y = chart["encoding"]["x"]["field"], chart["layer"][0]["encoding"]["y"]["field"]
                found[name] = {(point["rev"], point.get("field", y), point[x], point[y]) for point in chart["data"]["values"]}
        return found


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    return Project(tmp_path, monkeypatch)


@pytest.mark.slow
def test_in_a_checkout_a_run_is_compared_with_the_committed_one(project: Project) -> None:
    project.git("init", "--quiet")
    project.git("add", "--all")
    project.git("commit", "--quiet", "--message", "the code")
    project.repro(0.75)
    assert project.git("status", "--porcelain") == "?? dvc.lock\n"  # nothing staged, no .gitignore, and no out that git sees
    assert list(project.root.rglob(".gitignore")) == [project.root / ".gitignore"]
    project.git("add", "dvc.lock")
    project.git("commit", "--quiet", "--message", "a run")
    params = project.root / "params.yaml"
    seed = int(re.search(r"^seed: (\d+)", params.read_text(), re.MULTILINE)[1])  # type: ignore[index]
    params.write_text(re.sub(r"^seed: \d+", "seed: 7", params.read_text(), flags=re.MULTILINE))
    project.repro(0.875)

    assert json.loads(project.dvc("params", "diff", "--json", "HEAD")) == {
        "params.yaml": {"seed": {"old": seed, "new": 7, "diff": 7 - seed}}
    }
    shown = project.dvc("metrics", "show").splitlines()
    assert [line.split() for line in shown] == [
        ["Path", "map_50/logo/all", "roc_auc/spam/all"],
        ["data/evaluation/metrics.json", "0.5", "0.875"],
    ]
    changes = {"roc_auc/spam/all": {"old": 0.75, "new": 0.875, "diff": 0.125}}
    assert json.loads(project.dvc("metrics", "diff", "--json")) == {"data/evaluation/metrics.json": changes}
    assert {name: {point[1:] for point in points} for name, points in project.curves("show").items()} == {
        "text_loss": {(name, row["epoch"], row[name]) for row in EPOCHS for name in ("train_loss", "loss")},
        "image_loss": {("train_loss", 0, None), ("loss", 0, 0.5)},
        "logo_loss": {("train_loss", row["epoch"], row["train_loss"]) for row in PHOTOS},
        "logo_map_50": {("map_50", row["epoch"], row["map_50"]) for row in PHOTOS},
    }
    assert {point[0] for point in project.curves("diff")["text_loss"]} == {"HEAD", "workspace"}
    project.dvc("plots", "show")
    assert (project.root / "dvc_plots/index.html").exists()
    assert project.git("status", "--porcelain") == " M dvc.lock\n M params.yaml\n"


def by_setup(project: Project) -> None:
    """As `make setup` tells DVC in a copy of the code without git."""
    (line,) = (line for line in (REPOSITORY / "Makefile").read_text(encoding="utf-8").splitlines() if "no_scm" in line)
    python = f"{sys.executable} -P -m dvc"
    subprocess.run(line.strip().removeprefix("@").replace("$(VENV)/bin/dvc", python), shell=True, check=True, cwd=project.root)


def by_prepare(project: Project) -> None:
    """As the workspace of a run tells DVC."""
    settings = DVC_SETTINGS.format(workspace=project.root, store=project.root.parent / "store")
    (project.root / ".dvc/config.local").write_text(settings)


@pytest.mark.parametrize("tell", [by_setup, by_prepare])
def test_without_git_stages_run_and_their_curves_are_drawn(project: Project, tell: Callable[[Project], None]) -> None:
    tell(project)
    project.repro(0.75)
    assert project.curves("show").keys() == {"text_loss", "image_loss", "logo_loss", "logo_map_50"}


def test_setup_tells_dvc_nothing_in_a_checkout(project: Project) -> None:
    project.git("init", "--quiet")
    by_setup(project)
    assert not (project.root / ".dvc/config.local").exists()
