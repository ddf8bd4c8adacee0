"""The evaluation half needs the core extra alone."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
HEAVY = ("airflow", "crowdkit", "daft", "dvc", "fsspec", "great_expectations", "lancedb", "mlflow", "PIL", "torch", "transformers")
BLOCK = f"""
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {HEAVY!r}:
            raise ImportError(f"{{name}} is not in the core")

sys.meta_path.insert(0, Refuse())
"""


def test_calibrate_and_evaluate_run_where_nothing_but_the_core_can_be_imported(tmp_path) -> None:
    imports = "from upheld.evaluation import quickstart\nfrom upheld.evaluation.audit import command"
    script = f"{BLOCK}\n{imports}\nsys.exit(quickstart.main(['--out', {str(tmp_path)!r}]))"
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Synthetic data" in (tmp_path / "report.html").read_text()


def test_the_core_is_what_pyproject_says() -> None:
    """None of the heavy packages is a dependency without an extra."""
    core = {re.split(r"[^A-Za-z0-9_.-]", text)[0].lower() for text in importlib.metadata.requires("upheld") or [] if "extra ==" not in text}
    assert core
    assert not core & {"apache-airflow", "daft", "dvc", "great-expectations", "lancedb", "mlflow", "pillow", "torch", "transformers"}


@pytest.mark.slow
def test_a_fresh_core_install_makes_the_report(tmp_path) -> None:
    uv = shutil.which("uv") or Path(sys.executable).with_name("uv")
    if not Path(uv).exists():
        pytest.skip("needs uv")
    home = {**os.environ, "VIRTUAL_ENV": str(tmp_path / "venv")}
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, tmp_path / "venv"], check=True)
    subprocess.run(
        [uv, "pip", "install", "--quiet", "--constraint", "requirements.lock", "--editable", "."], check=True, cwd=REPOSITORY, env=home
    )
    python = tmp_path / "venv" / "bin" / "python"
    for name in ("torch", "airflow", "daft", "lancedb", "mlflow"):
        assert subprocess.run([python, "-c", f"import {name}"], capture_output=True).returncode != 0
    subprocess.run([python, "-m", "upheld.evaluation.quickstart", "--out", tmp_path / "quickstart"], check=True, cwd=REPOSITORY, timeout=60)
    assert (tmp_path / "quickstart" / "report.html").stat().st_size > 20_000
