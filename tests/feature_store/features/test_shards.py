"""Decoded arrays on disk: shared between runs, whole or not at all, erasable, and never all in memory."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from upheld.common.errors import FailedWork
from upheld.feature_store.features import shards
from upheld.feature_store.features.shards import Shards, keep_only

RANDOM = np.random.default_rng(4)
ARRAYS = {f"d{number}": RANDOM.integers(0, 255, (number % 5 + 1, 3), np.uint8) for number in range(40)}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(shards, "SHARD_BYTES", 60)  # several shards
    Shards(tmp_path / "decoded/tiny", np.uint8).add(ARRAYS.items())
    return tmp_path / "decoded/tiny"


def test_another_run_reads_what_one_wrote(folder: Path) -> None:
    assert len(list(folder.glob("*.bin"))) > 3
    again = Shards(folder, np.uint8)
    assert again.missing([*ARRAYS, "x", "x"]) == ["x"]
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(again[name], array)
        assert again.length(name) == len(array)
        again[name][:] = 0  # a copy
        np.testing.assert_array_equal(again[name], array)


def test_a_writer_that_fails_leaves_whole_shards_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 60)

    def broken():
        for number, item in enumerate(ARRAYS.items()):
            if number == 29:
                raise KeyboardInterrupt
            yield item

    with pytest.raises(KeyboardInterrupt):
        Shards(tmp_path, np.uint8).add(broken())
    after = Shards(tmp_path, np.uint8)
    left = [name for name in ARRAYS if name not in after.missing(ARRAYS)]
    assert 0 < len(left) < 29
    assert all((after[name] == ARRAYS[name]).all() for name in left)
    assert {path.suffix for path in tmp_path.iterdir()} == {".bin", ".json"}


def test_a_shard_that_was_cut_short_or_deleted_is_named(folder: Path) -> None:
    opened = Shards(folder, np.uint8)
    place = opened._places["d39"]
    os.truncate(place.file, place.offset)
    with pytest.raises(FailedWork, match=f"{place.file}: cut short"):
        opened["d39"]
    place.file.unlink()
    with pytest.raises(FailedWork, match=f"{place.file}: cannot be read"):
        opened["d39"]
    place.file.with_suffix(".json").write_text("{")
    with pytest.raises(FailedWork, match="not a readable index"):
        Shards(folder, np.uint8)


def test_erased_contents_are_in_no_file_any_more(folder: Path) -> None:
    living = ARRAYS.keys() - {"d7", "d8"}
    assert keep_only(folder.parent, living) in (1, 2)
    left = Shards(folder, np.uint8)
    assert {"d7", "d8"} <= set(left.missing(ARRAYS))
    assert len(left.missing(ARRAYS)) < 20
    assert {path.stem for path in folder.glob("*.bin")} == {path.stem for path in folder.glob("*.json")}
    assert keep_only(folder.parent, living) == keep_only(folder / "none", []) == 0


def test_memory_stays_flat_while_ten_times_as_much_is_read(tmp_path: Path) -> None:
    """400 MB written and read at random, in a process of its own: its memory grows by the shard being written, not by the data."""
    script = f"""
import sys
import numpy as np
from upheld.feature_store.features.shards import Shards
def resident_mb():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1]) / 1024
def highest_mb():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) / 1024
shards = Shards(__import__("pathlib").Path({str(tmp_path)!r}), np.uint8)
before = resident_mb()
shards.add((str(n), np.full((1024, 1024), n % 251, np.uint8)) for n in range(400))
for n in np.random.default_rng(0).permutation(400):
    assert shards[str(n)][7, 7] == n % 251
print(highest_mb() - before)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 64 + 40
