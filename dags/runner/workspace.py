"""The folder a run works in: the code as it was, the merged params, the pinned inputs, and DVC settings of its own."""

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from upheld.dags.runner import graph, process

ROOT_FILES = ("*.py", "*.yaml", "*.toml", "*.lock", ".dvcignore")
DVC_SETTINGS = """[core]
    no_scm = true
    analytics = false
    check_update = false
    site_cache_dir = {workspace}/.dvc/site
[cache]
    dir = {store}/dvc-cache
    type = "hardlink,symlink,copy"
['remote "store"']
    url = {store}/dvc-cache
"""


class Refused(Exception):
    """What was asked for cannot be done; the message is one line for the person who asked."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code  # exit code: 1 failed work, 2 bad use


def location(store: Path, run_id: str) -> Path:
    """Workspace folder of a run; characters that do not belong into a file name become `-`."""
    return store / "runs" / re.sub(r"[^A-Za-z0-9_.-]", "-", run_id)


def mlflow_page(workspace: Path) -> str | None:
    """Address at which MLflow shows the run, as registry/runs/live.py wrote it down; None where it is not known, or there is none."""
    written = workspace / "mlflow.json"
    page: str | None = json.loads(written.read_text(encoding="utf-8"))["page"] if written.exists() else None
    return page


def create(root: Path, workspace: Path, store: Path, given: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Make the workspace under a temporary name and rename it; one that exists is left as it is.

    Args:
        root: repository, whose packages, `dvc.yaml` and `params.yaml` are copied; outs and `dvc.lock` are not.
        workspace: folder to make.
        store: folder with the shared DVC cache; its own parameters come over the repository's.
        given: flat parameter name -> value, those equal to `base_params` included.
        facts: goes into `run.json` beside the code's commit; `rerun_of` names a run whose params and pinned inputs to take.

    Raises:
        Refused: a parameter is unknown or of the wrong type, or there is no run `rerun_of`. Nothing is left behind.
    """
    if workspace.exists():
        return
    workspace.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=workspace.parent, prefix=f".{workspace.name}.", suffix=".partial"))
    try:
        for package in sorted(path.parent for path in root.glob("*/__init__.py")):
            shutil.copytree(package, partial / package.name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        for file in sorted(file for pattern in ROOT_FILES for file in root.glob(pattern) if file.name != "dvc.lock"):
            shutil.copy2(file, partial / file.name)
        (partial / ".dvc").mkdir()
        shutil.copy2(root / ".dvc" / "config", partial / ".dvc" / "config")
        base = base_params(root, store)
        changes = _changes(base, given)
        if facts.get("rerun_of"):
            # The earlier run's pinned inputs, and its values of the parameters that the code still knows.
            earlier = location(store, facts["rerun_of"])
            if not (earlier / "run.json").is_file():
                raise Refused(f"there is no run {earlier.name}; `upheld runs` lists them", 2)
            if (earlier / graph.PINNED).exists():
                (partial / graph.PINNED).parent.mkdir(parents=True)
                shutil.copy2(earlier / graph.PINNED, partial / graph.PINNED)
            changes = _changes(base, {key: value for key, value in read_params(earlier).items() if key in base}) | changes
        # One line of YAML each; not JSON, whose 1e-05 YAML takes for a string.
        lines = {key: yaml.safe_dump(value, default_flow_style=True, width=10**6) for key, value in sorted(changes.items())}
        settings = ["--set=" + key + "=" + line.removesuffix("\n").removesuffix("\n...") for key, line in lines.items()]
        call(["upheld.common.params.merge", "--out", "params.yaml", *settings], partial, store, lambda line: print(line, flush=True))
        (partial / ".dvc" / "config.local").write_text(DVC_SETTINGS.format(workspace=workspace, store=store), encoding="utf-8")
        python = partial / "bin" / "python"
        python.parent.mkdir()
        python.write_text(process.PYTHON_ON_PATH, encoding="utf-8")
        python.chmod(0o755)
        # A copy of the code without git has no commit.
        commit, dirty = (_git(root, "rev-parse", "HEAD"), _git(root, "status", "--porcelain", "--untracked-files=no"))
        made_at = datetime.now(UTC).isoformat(timespec="seconds")
        origin = {"created_at": made_at, "code_commit": commit, "code_dirty": None if dirty is None else bool(dirty)}
        write_json(partial / "run.json", dict(facts) | origin)
        partial.chmod(0o755)
        partial.rename(workspace)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def logged(workspace: Path, task: str) -> Iterator[Callable[[str], None]]:
    """A function that prints a line and keeps it in the workspace's `logs/TASK.log`, where people and `upheld retrain` look for it."""
    (workspace / "logs").mkdir(exist_ok=True)
    with (workspace / "logs" / f"{task}.log").open("w", encoding="utf-8", buffering=1) as log:

        def tell(line: str) -> None:
            """Print a line and write it into the log."""
            print(line, flush=True)
            log.write(line + "\n")

        yield tell


def call(arguments: list[str], workspace: Path, store: Path, tell: Callable[[str], None]) -> None:
    """Run one of our modules (`arguments` begin with its name) in the interpreter of the stages; `tell` takes its output line by line.

    Raises:
        Refused: it exited with another code than 0; the message is the last line it printed.
    """
    last_line = ""

    def note(line: str) -> None:
        """Pass on, and keep for the message of a refusal."""
        nonlocal last_line
        tell(line)
        last_line = line.strip() or last_line

    code = process.stream([process.interpreter(), "-m", *arguments], workspace, store, note)
    if code:
        raise Refused(last_line or f"{arguments[0]} exited with {code}", 2 if code == 2 else 1)


def flatten(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mapping -> `section.key` names; lists and empty mappings stay values. dags may not import ours of feature_store."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) and value else {f"{prefix}{key}": value}
    return flat


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON, whole or not at all. As in common/files.py, which dags may not import."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with partial.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=2, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def read_params(root: Path) -> dict[str, Any]:
    """The flat parameters of a folder's `params.yaml`."""
    return flatten(yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8")))


def base_params(root: Path, store: Path) -> dict[str, Any]:
    """The flat parameters of a run that nobody changes anything for: the repository's, and over them the store's own."""
    own = store / "params.yaml"
    return read_params(root) | (flatten(yaml.safe_load(own.read_text(encoding="utf-8")) or {}) if own.exists() else {})


def _changes(base: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """What differs from the values of `base_params`; JSON tells true from 1, which Python takes for equal.

    Airflow's page sends null for an empty text, so null is one where the value of `base` is a text that may be empty.
    """
    texts = {key: "" if value is None and base.get(key) == "" else value for key, value in given.items()}
    return {key: value for key, value in texts.items() if key not in base or json.dumps(value) != json.dumps(base[key])}


def _git(root: Path, *arguments: str) -> str | None:
    git = shutil.which("git")
    if git is None or not (root / ".git").exists():
        return None
    done = subprocess.run([git, "-C", str(root), *arguments], capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else None
