"""The benchmark of training on a GPU starts, where there is none too."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_it_runs_at_toy_size() -> None:
    script = Path(__file__).parents[3] / "benchmarks/training/gpu.py"
    done = subprocess.run([sys.executable, script, "--toy"], capture_output=True, text=True, cwd=script.parents[1])
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.splitlines()[-1].removeprefix("ratio ")) > 0
