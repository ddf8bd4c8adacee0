"""This code as a wheel, which travels with each model that it registers, so that the model runs where there is no checkout."""

import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from upheld import ROOT
from upheld.common.errors import FailedWork

BUILD = "import sys, setuptools.build_meta as backend; backend.build_wheel(sys.argv[1])"
README = "The code of a registered model, as it was when the model was registered.\n"
EPOCH = "315532800"  # 1980-01-01, the first that a zip file can hold: equal code gives equal bytes


@cache
def built() -> tuple[str, bytes]:
    """Name and content of the wheel; in a run's workspace its params.yaml holds the parameters of the run.

    Raises:
        FailedWork: it cannot be built here.
    """
    with tempfile.TemporaryDirectory() as scratch:
        source, out = Path(scratch) / "source", Path(scratch) / "out"
        for package in sorted(path.parent for path in ROOT.glob("*/__init__.py")):
            shutil.copytree(package, source / package.name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "params.yaml"):
            shutil.copy(ROOT / name, source)
        (source / "README.md").write_text(README, encoding="utf-8")
        out.mkdir()
        environment = os.environ | {"SOURCE_DATE_EPOCH": EPOCH}
        done = subprocess.run(
            [sys.executable, "-c", BUILD, str(out)],
            cwd=source,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode:
            raise FailedWork(f"{ROOT}: no wheel can be built of it ({done.stdout.strip().splitlines()[-1:]}); run `make setup`")
        (made,) = out.glob("*.whl")
        return made.name, made.read_bytes()
