"""`upheld` as a package: what its wheel installs, that it works without a checkout, and whose code a run's workspace imports."""

import ast
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from score_worlds import table

import upheld
from upheld.dags.runner import process, workspace

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("common", "dags", "evaluation", "feature_store", "registry", "training")
BARE = {*PACKAGES, "cli"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of the repository, so that nothing of an earlier build gets in and nothing stays behind."""
    copy, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in (*PACKAGES, "upheld"):
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "params.yaml"):
        shutil.copy2(ROOT / name, copy)
    build = f"import setuptools.build_meta as backend; backend.build_wheel({str(out)!r})"
    done = subprocess.run([sys.executable, "-c", build], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (made,) = out.glob("*.whl")
    return made


def test_the_wheel_holds_one_name_and_every_file_beside_the_code(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if not name.endswith("/")}
        (tops,) = (archive.read(name).decode().split() for name in held if name.endswith("dist-info/top_level.txt"))
    assert tops == ["upheld"]
    assert {name.partition("/")[0] for name in held} == {"upheld", f"upheld-{upheld.__version__}.dist-info"}
    ours = [path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    beside = {"upheld/__init__.py", "upheld/cli.py", "upheld/params.yaml", "upheld/py.typed"}
    assert {name for name in held if name.startswith("upheld/")} == {
        f"upheld/{path.relative_to(ROOT).as_posix()}" for path in ours
    } | beside
    assert {path.suffix for path in ours} == {".py", ".j2", ".css", ".svg", ".yaml", ""}  # templates, marks and texts are among them


@pytest.mark.slow
def test_installed_from_the_wheel_alone_the_core_evaluates_a_score_table(wheel: Path, tmp_path: Path) -> None:
    uv = shutil.which("uv") or Path(sys.executable).with_name("uv")
    if not Path(uv).exists():
        pytest.skip("needs uv")
    bin_folder, empty = tmp_path / "venv" / "bin", tmp_path / "empty"
    empty.mkdir()
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, tmp_path / "venv"], check=True)
    install = [uv, "pip", "install", "--quiet", "--python", bin_folder / "python", "--constraint", ROOT / "requirements.lock", wheel]
    if subprocess.run([*install, "--offline"], capture_output=True).returncode:  # the lock's packages are not all in uv's cache
        subprocess.run(install, check=True)
    table(600).assign(split="test").to_parquet(empty / "scores.parquet")
    bare = {"PATH": os.defpath, "HOME": str(tmp_path)}

    def run(*arguments: str) -> str:
        done = subprocess.run([bin_folder / arguments[0], *arguments[1:]], cwd=empty, env=bare, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("upheld", "evaluate", "--scores", "scores.parquet", "--out", "evaluation")
    assert {"spam", "hate_speech"} <= {
        check["scope"].partition("/")[0] for check in json.loads((empty / "evaluation/gate.json").read_text())["checks"]
    }
    assert "spam" in (empty / "evaluation/report.md").read_text().lower()
    facts = (
        "import importlib.metadata, upheld, upheld.evaluation; print(upheld.__version__, importlib.metadata.version('upheld'), upheld.ROOT)"
    )
    version, installed, place = run("python", "-c", facts).split()
    assert version == installed == importlib.metadata.version("upheld")
    assert Path(place).name == "site-packages" and Path(place).is_relative_to(tmp_path)
    for name in BARE:
        assert subprocess.run([bin_folder / "python", "-I", "-c", f"import {name}"], cwd=empty, env=bare, capture_output=True).returncode


@pytest.mark.parametrize("python", ["of the runner", "of a stage"])
def test_a_workspace_imports_its_own_code(tmp_path: Path, python: str) -> None:
    folder, store = tmp_path / "store/runs/one", tmp_path / "store"
    workspace.create(ROOT, folder, store, {}, {})
    assert not [path for path in folder.rglob("*") if path.is_symlink() and not path.resolve().is_relative_to(folder)]
    module, line, changed = folder / "registry/runs/history.py", "no run yet in", "nothing ran in"
    source = module.read_text()
    assert source.count(line) == 1
    module.write_text(source.replace(line, changed))
    executable = process.interpreter() if python == "of the runner" else "python"  # a stage's is the workspace's own bin/python

    def said(place: Path) -> str:
        lines: list[str] = []
        command = [executable, "-m", "upheld.registry.runs.history", "--store", str(tmp_path / "no store")]
        os.environ["PATH"], before = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}", os.environ["PATH"]
        try:
            assert process.stream(command, place, store, lines.append) == 0, lines
        finally:
            os.environ["PATH"] = before
        return "\n".join(lines)

    assert changed in said(folder)
    assert line in said(ROOT)  # the checkout's is as it was


def bare_imports(source: str) -> Iterator[str]:
    """Modules that a source names without `upheld.` before them: in an import, or as the module of `python -m`."""
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            names = [str(node.args[0].value)] if called in ("import_module", "importorskip", "__import__") else []
        elif isinstance(node, ast.List | ast.Tuple):
            words = [item.value if isinstance(item, ast.Constant) else None for item in node.elts]
            names = [str(after) for before, after in pairwise(words) if before == "-m"]
        yield from (name for name in names if name.partition(".")[0] in BARE)


def test_nothing_imports_our_packages_without_the_name_upheld() -> None:
    files = [path for name in (*PACKAGES, "tests", "benchmarks") for path in (ROOT / name).rglob("*.py")]
    files += [ROOT / "upheld/__init__.py", ROOT / "upheld/cli.py"]
    assert len(files) > 400
    assert [f"{path.relative_to(ROOT)}: {name}" for path in files for name in bare_imports(path.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize(
    "source",
    [
        "import {}training",
        "from {}evaluation import gate",
        "def f():\n    from {}registry.runs import pin",
        "import os, {}cli as c",
        "importlib.import_module('{}dags.promote')",
        "run([python, '-m', '{}common.params.merge'])",
    ],
)
def test_a_bare_import_would_be_seen(source: str) -> None:
    assert list(bare_imports(source.format("")))
    assert not list(bare_imports(source.format("upheld.")))
