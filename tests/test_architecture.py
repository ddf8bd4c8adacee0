"""The rules that hold across the packages: who imports whom, what importing does, what is never called, what the graph lists."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from import_closure import PACKAGES, REPOSITORY, closure, imports, source

PARAMS = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
STAGES = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
SOURCES = [*sorted(path for package in PACKAGES for path in (REPOSITORY / package).rglob("*.py")), REPOSITORY / "upheld" / "cli.py"]
AIRFLOW_FILES = {
    "assets",
    "database",
    "ingest_review_outcomes",
    "promote",
    "retrain",
    "run_now",
    "task_logs",
    "tasks",
    "weekly_calibration",
}
SET_BY_TORCH = ("KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK", "TORCHINDUCTOR_CACHE_DIR")
SET_BY_OPENCV = ("LD_LIBRARY_PATH", "QT_QPA_FONTDIR", "QT_QPA_PLATFORM_PLUGIN_PATH")
SWITCHED_OFF = ("ORT_DISABLE_TELEMETRY", "MLFLOW_DISABLE_TELEMETRY", "GX_ANALYTICS_ENABLED", "HF_HUB_DISABLE_TELEMETRY")  # reports of use
ALLOWED = (*SET_BY_TORCH, *SET_BY_OPENCV, *SWITCHED_OFF)
LOADED_BY_MLFLOW = "upheld.registry.tracking.pyfunc_pipeline"  # a script in the form of a module: MLflow runs it to load a registered model


def module_name(path: Path) -> str:
    name = path.relative_to(REPOSITORY).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
    return f"upheld.{name.removeprefix('upheld.')}"


def test_import_contracts_hold() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def module_of(name: str) -> str:
    """The module that a stage of the graph runs."""
    return STAGES[name]["cmd"].split()[-1]


def uncovered(files: set[Path], deps: list[str]) -> list[str]:
    """Files that lie in none of the folders and are none of the files that `deps` names."""
    covered = [REPOSITORY / dep for dep in deps]
    return sorted(file.relative_to(REPOSITORY).as_posix() for file in files if not {file, *file.parents} & set(covered))


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_is_a_module_and_takes_no_arguments(name: str) -> None:
    assert STAGES[name]["cmd"].split()[:2] == ["python", "-m"]
    assert len(STAGES[name]["cmd"].split()) == 3  # what differs between runs comes from params.yaml, never from the command


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_the_folders_of_all_that_it_imports(name: str) -> None:
    common = REPOSITORY / "common"  # changes no result
    files = {file for file in closure(source(module_of(name))) if not file.is_relative_to(common)}
    code = [dep for dep in STAGES[name]["deps"] if not dep.startswith(("data/", "models/"))]
    assert uncovered(files, code) == []
    assert [dep for dep in code if not any({file, *file.parents} & {REPOSITORY / dep} for file in files)] == []  # and on no other


def test_what_is_loaded_by_name_and_what_lies_beside_a_folder_is_seen(tmp_path: Path) -> None:
    catalogue = source("upheld.feature_store.extractors.catalogue")
    assert source("upheld.feature_store.extractors.image.ocr") in imports(catalogue)
    assert uncovered({catalogue}, ["feature_store/extractors/image", "feature_store/ledger"]) == ["feature_store/extractors/catalogue.py"]


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_all_params_that_it_reads(name: str) -> None:
    stages = frozenset(source(module_of(stage)) for stage in STAGES)  # what one imports from another one's file is never its `run`
    read: set[str] = set()
    for file in closure(source(module_of(name)), stages - {source(module_of(name))}):
        read |= params_read(ast.parse(file.read_text(encoding="utf-8")))
    listed = set(STAGES[name]["params"])
    assert [key for key in sorted(read) if not {key, key.split(".")[0]} & listed] == []


def params_read(tree: ast.AST) -> set[str]:
    """What a file reads of its parameters, `section.key` or `section`: attributes of what is annotated or loaded as Params."""
    holders: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.arg) and node.annotation and ast.unparse(node.annotation).endswith("Params"):
            holders.add(node.arg)
        elif isinstance(node, ast.Assign) and ast.unparse(node.value).startswith(("params.load(", "parameters.load(")):
            holders |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    sections = [node for node in attributes if isinstance(node.value, ast.Name) and node.value.id in holders and node.attr in PARAMS]
    below = {id(node.value): node.attr for node in attributes}
    keys = [(node.attr, below.get(id(node))) for node in sections]
    return {f"{section}.{key}" if isinstance(PARAMS[section], dict) and key in PARAMS[section] else section for section, key in keys}


def test_params_are_found_whatever_they_are_called() -> None:
    code = "def run(given: parameters.Params) -> None:\n    x = given.text.epochs\n    y = given.fairness\n    z = other.image\n"
    assert params_read(ast.parse(code)) == {"text.epochs", "fairness"}


def test_importing_makes_no_file_and_leaves_the_process_as_it_was(tmp_path: Path) -> None:
    names = [module_name(path) for path in SOURCES if not (path.is_relative_to(REPOSITORY / "dags") and path.stem in AIRFLOW_FILES)]
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
        [sys.executable, "-c", script, wanted, json.dumps(ALLOWED)], cwd=folder, env=environment, capture_output=True, text=True
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


def test_modules_that_are_named_by_a_variable_are_imported_in_three_places_only() -> None:
    """The import contracts cannot see those: a catalogue of ours, the table of commands, and the one owner of ultralytics."""
    found = {
        path.relative_to(REPOSITORY).as_posix()
        for path in SOURCES
        if re.search(r"import_module|__import__", path.read_text(encoding="utf-8"))
    }
    assert found == {"feature_store/decoding/contract.py", "training/logos/yolo.py", "upheld/cli.py"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_a_module_starts_when_all_of_it_is_there(path: Path) -> None:
    """What stands below `if __name__ == "__main__"` is not yet defined where a stage or a command starts its module."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    assert [node.lineno for node in body[:-1] if isinstance(node, ast.If) and "__main__" in ast.unparse(node.test)] == []


def test_nobody_binds_to_more_than_loopback() -> None:
    found = [path.name for path in SOURCES if "0.0.0.0" in path.read_text(encoding="utf-8")]
    assert found == []
