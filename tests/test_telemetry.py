"""Nothing reports on its use: what people are moderated for is nobody else's business."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SESSION = """
import upheld
from pathlib import Path
import onnxruntime
import rapidocr_onnxruntime
onnxruntime.InferenceSession(str(next(Path(rapidocr_onnxruntime.__file__).parent.rglob("*cls*.onnx"))))
"""


def test_onnx_runtime_makes_no_id_of_the_machine(tmp_path: Path) -> None:
    """Where it would send reports, it leaves a database and an id in the home folder; not in CI, whose variable is therefore kept away."""
    bare = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    subprocess.run([sys.executable, "-c", SESSION], env=bare, check=True, cwd=Path(__file__).parents[1])
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize("name", ["ORT_DISABLE_TELEMETRY", "MLFLOW_DISABLE_TELEMETRY", "GX_ANALYTICS_ENABLED", "HF_HUB_DISABLE_TELEMETRY"])
def test_a_users_environment_does_not_switch_it_on(name: str) -> None:
    asked = subprocess.run(
        [sys.executable, "-c", f"import os, upheld; print(os.environ[{name!r}])"],
        env=os.environ | {name: "true" if name.startswith("GX") else "0"},
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert asked.stdout.strip() == ("false" if name.startswith("GX") else "true" if name.startswith("MLFLOW") else "1")
