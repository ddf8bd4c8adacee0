"""The same cube where Daft runs on Ray, started locally in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import daft
import pyarrow as pa
import pyarrow.parquet
import pytest

from evaluation import cube, cube_build

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = """
import sys
from pathlib import Path
import daft
from evaluation import cube, cube_build
built = cube_build.build(cube_build.parquet_slices([Path(sys.argv[1])], rows_per_slice=2000), group_column="region")
assert daft.get_or_create_runner().name == "ray"
cube.save(built, Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_ray_counts_what_the_native_engine_counts(tmp_path, score_table) -> None:
    pytest.importorskip("ray")
    rows = pa.Table.from_pandas(score_table(5000, 21, regions=True), preserve_index=False)
    pa.parquet.write_table(rows, tmp_path / "scores.parquet", row_group_size=1000)
    given = [sys.executable, "-c", SCRIPT, str(tmp_path / "scores.parquet"), str(tmp_path / "cube.parquet")]
    asked = {**os.environ, "DAFT_RUNNER": "ray", "PYTHONPATH": str(REPOSITORY), "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run(given, cwd=tmp_path, env=asked, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    native, on_ray = cube_build.build(daft.from_arrow(rows), group_column="region"), cube.load(tmp_path / "cube.parquet")
    assert (on_ray.categories, on_ray.languages, on_ray.groups) == (native.categories, native.languages, native.groups)
    assert on_ray.keys.tolist() == native.keys.tolist()
    assert on_ray.moments == pytest.approx(native.moments, rel=1e-12)
    assert on_ray.frame_max_weight.tolist() == native.frame_max_weight.tolist()
