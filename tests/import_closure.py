"""Which of our files a module depends on, read off its syntax tree; nothing is imported."""

import ast
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGES = ("dags", "evaluation", "feature_store", "registry", "training")
# Plumbing that cannot change what a stage writes: arguments, errors, renames, progress; the params' values are deps of their own.
PLUMBING = {
    *(f"feature_store/{name}.py" for name in ("atomic", "command", "errors")),
    *(f"feature_store/{file.name}" for file in (REPOSITORY / "feature_store").glob("params*.py")),
    "common/progress.py",
    "common/post_progress.py",
}
HOLDERS = {"params", "settings", "loaded"}  # what our code calls the whole of the parameters


def imports(path: Path) -> set[Path]:
    """Files of ours that a file imports anywhere in it."""
    found: set[Path] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        candidates = (source(name) for name in names if name.split(".")[0] == "upheld")
        found |= {file for file in candidates if file.is_file()}
    return found


def closure(path: Path, without: frozenset[Path] = frozenset()) -> set[Path]:
    """The file, and what it imports directly or through others; `without` is not entered."""
    known: set[Path] = set()
    waiting = {path}
    while waiting:
        file = waiting.pop()
        known.add(file)
        waiting |= imports(file) - known - without
    return known


def source(module: str) -> Path:
    """File of a module of ours."""
    return REPOSITORY / (module.removeprefix("upheld.").replace(".", "/") + ".py")


def code_deps(module: str) -> list[str]:
    """Paths that a stage running `module` must depend on: its import closure and the templates beside it, sorted."""
    files = closure(source(module))
    beside = {file for source in files for file in source.parent.iterdir() if file.is_file() and file.suffix not in (".py", ".pyc")}
    names = {file.relative_to(REPOSITORY).as_posix() for file in files | beside}
    return sorted(name for name in names - PLUMBING if not name.endswith(("__init__.py", ".airflowignore")))


def params_read(module: str, stages: frozenset[Path]) -> set[str]:
    """What of params.yaml a stage names as attributes of its params: `section.key`, or `section` where it takes the section as a whole.

    Args:
        module: the stage's module.
        stages: files of all stages; what one imports from another one's file is a type or a constant, never its `run`.
    """
    keys = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in closure(source(module), stages - {source(module)})]
    attributes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    sections = [node for node in attributes if isinstance(node.value, ast.Name) and node.value.id in HOLDERS and node.attr in keys]
    below = {id(node.value): node.attr for node in attributes}
    named = [(node.attr, below.get(id(node))) for node in sections]
    return {f"{section}.{key}" if key in _keys(keys[section]) else section for section, key in named}


def _keys(section: object) -> set[str]:
    return set(section) if isinstance(section, dict) else set()


def rewrite(path: Path) -> str:
    """The text of a dvc.yaml with every stage's list of code brought up to date; deps on data stay as they are."""
    stages = yaml.safe_load(path.read_text(encoding="utf-8"))["stages"]
    text = path.read_text(encoding="utf-8")
    for stage in stages.values():
        written = "".join(f"      - {dep}\n" for dep in stage["deps"])
        data = [dep for dep in stage["deps"] if dep.startswith(("data/", "models/"))]
        wanted = "".join(f"      - {dep}\n" for dep in [*data, *code_deps(stage["cmd"].split()[-1])])
        head = f"    cmd: {stage['cmd']}\n    deps:\n"
        text = text.replace(head + written, head + wanted)
    return text


if __name__ == "__main__":  # python tests/import_closure.py: after a stage's imports have changed
    GRAPH = REPOSITORY / "dvc.yaml"
    GRAPH.write_text(rewrite(GRAPH), encoding="utf-8")
