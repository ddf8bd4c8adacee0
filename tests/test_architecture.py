"""The rules that hold across the packages: who imports whom, what importing does, what is never called, what the graph lists."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from import_closure import PACKAGES, REPOSITORY, code_deps, params_read, rewrite, source

STAGES = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
SOURCES = [*sorted(path for package in PACKAGES for path in (REPOSITORY / package).rglob("*.py")), REPOSITORY / "upheld" / "cli.py"]
AIRFLOW_FILES = {
    "assets",
    "database",
    "ingest_review_outcomes",
    "promote",
    "question",
    "retrain",
    "run_now",
    "stages",
    "task_logs",
    "weekly_calibration",
}
SET_BY_TORCH = ("KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK", "TORCHINDUCTOR_CACHE_DIR")
SET_BY_OPENCV = ("LD_LIBRARY_PATH", "QT_QPA_FONTDIR", "QT_QPA_PLATFORM_PLUGIN_PATH")
SET_BY_LIBRARIES = (*SET_BY_TORCH, *SET_BY_OPENCV)
LOADED_BY_MLFLOW = "upheld.registry.tracking.pyfunc_pipeline"  # a script in the form of a module: MLflow runs it to load a registered model


def module_name(path: Path) -> str:
    name = path.relative_to(REPOSITORY).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
    return f"upheld.{name.removeprefix('upheld.')}"


def test_import_contracts_hold() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_is_named_after_its_module_and_section(name: str) -> None:
    assert STAGES[name]["cmd"].split()[:2] == ["python", "-m"]
    assert STAGES[name]["cmd"].split()[2].split(".")[-1] == name
    assert len(STAGES[name]["cmd"].split()) == 3  # what differs between runs comes from params.yaml, never from the command


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_all_code_that_it_imports(name: str) -> None:
    written = {out for stage in STAGES.values() for out in stage["outs"]} | {"data/inputs.json"}
    listed = [dep for dep in STAGES[name]["deps"] if dep not in written]
    assert listed == code_deps(STAGES[name]["cmd"].split()[-1]), "run `python tests/import_closure.py` to bring dvc.yaml up to date"


def test_rewriting_a_complete_graph_changes_nothing() -> None:
    assert rewrite(REPOSITORY / "dvc.yaml") == (REPOSITORY / "dvc.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_all_params_that_it_reads(name: str) -> None:
    modules = {stage: body["cmd"].split()[-1] for stage, body in STAGES.items()}
    read = params_read(modules[name], frozenset(source(module) for module in modules.values()))
    listed = set(STAGES[name]["params"])
    assert [key for key in sorted(read) if not {key, key.split(".")[0]} & listed] == []


def test_importing_makes_no_file_and_leaves_the_process_as_it_was(tmp_path: Path) -> None:
    names = [module_name(path) for path in SOURCES if not (path.parent.name == "dags" and path.stem in AIRFLOW_FILES)]
    script = """
import importlib, json, logging, os, sys
ours = lambda: {k: v for k, v in os.environ.items() if k not in json.loads(sys.argv[2])}
before = (ours(), list(logging.getLogger().handlers), logging.getLogger().level, os.getcwd())
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
after = (ours(), list(logging.getLogger().handlers), logging.getLogger().level, os.getcwd())
print(json.dumps([str(b) + " became " + str(a) for b, a in zip(before, after) if b != a]))
"""
    folder, home = tmp_path / "empty", tmp_path / "home"
    folder.mkdir()
    home.mkdir()
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"}
    wanted = json.dumps([name for name in names if name != LOADED_BY_MLFLOW])
    done = subprocess.run(
        [sys.executable, "-c", script, wanted, json.dumps(SET_BY_LIBRARIES)], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n"
    assert list(folder.rglob("*")) + list(home.rglob("*")) == []


def forbidden(node: ast.AST) -> str | None:
    """What is wrong with a node of a syntax tree, or None."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        names = {alias.name.split(".")[0] for alias in node.names} if isinstance(node, ast.Import) else {(node.module or "").split(".")[0]}
        return next((f"imports {name}" for name in names & {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}), None)
    if not isinstance(node, ast.Call):
        return None
    called = ast.unparse(node.func)
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    if called in ("eval", "exec", "os.system", "os.popen", "yaml.load", "pd.read_pickle", "pandas.read_pickle"):
        return f"calls {called}"
    if given.get("shell", "False") != "False":
        return "starts a shell"
    if called == "torch.load" and given.get("weights_only") != "True":
        return "calls torch.load without weights_only=True"
    if called.endswith((".from_pretrained", ".from_config")) and given.get("trust_remote_code") != "False":
        return f"calls {called} without trust_remote_code=False"
    return "loads pickles" if given.get("allow_pickle", "False") != "False" else None


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_nothing_is_unpickled_evaluated_or_given_to_a_shell(path: Path) -> None:
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    assert [f"line {node.lineno}: {wrong}" for node in nodes if (wrong := forbidden(node))] == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "eval('1')",
        "run(x, shell=True)",
        "torch.load(p)",
        "np.load(p, allow_pickle=True)",
        "AutoConfig.from_pretrained(p)",
        "transformers.AutoModel.from_config(c, trust_remote_code=True)",
    ],
)
def test_the_search_for_forbidden_calls_finds_them(code: str) -> None:
    assert any(forbidden(node) for node in ast.walk(ast.parse(code)))


def test_nobody_binds_to_more_than_loopback() -> None:
    found = [path.name for path in SOURCES if "0.0.0.0" in path.read_text(encoding="utf-8")]
    assert found == []
