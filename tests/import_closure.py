"""Which of our files a module depends on, read off its syntax tree; nothing is imported."""

import ast
import re
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGES = ("common", "dags", "evaluation", "feature_store", "registry", "training")
BY_NAME = re.compile(r"(upheld(?:\.\w+)+)(?::\w+)?")  # "package.module" and "package.module:Class", as catalogues name what they load


def source(module: str) -> Path:
    """File of a module of ours."""
    return REPOSITORY / (module.removeprefix("upheld.").replace(".", "/") + ".py")


@cache
def imports(path: Path) -> frozenset[Path]:
    """Files of ours that a file imports anywhere in it, or names in a string of its own."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and (match := BY_NAME.fullmatch(node.value)):
            names.append(match[1])
    return frozenset(file for name in names if name.startswith("upheld.") and (file := source(name)).is_file())


def closure(path: Path, without: frozenset[Path] = frozenset()) -> set[Path]:
    """The file, and what it imports directly or through others; `without` is not entered."""
    known: set[Path] = set()
    waiting = {path}
    while waiting:
        file = waiting.pop()
        known.add(file)
        waiting |= imports(file) - known - without
    return known
