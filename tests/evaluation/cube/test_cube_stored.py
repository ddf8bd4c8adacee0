"""What a fixed table was counted into by an engine that we no longer use, to the last bit.

Its numbers come from integers by IEEE arithmetic alone, so that they are equal on every machine.
"""

import hashlib
import json

import numpy as np
import pandas as pd
import pytest

from upheld.evaluation.scores import selection as score_rows
from upheld.evaluation.scores import table as scores

STORED = {
    None: "2556a20a647b0c18",
    "region": "671422e2bb6dd6e0",
    "region*author_group": "4f3e6e4579058504",
}


def _rows(num_rows: int = 20_000) -> pd.DataFrame:
    k = np.arange(num_rows)
    drawn = k % 3 == 0
    return pd.DataFrame(
        {
            "item_id": np.char.add("post-", k.astype(str)),
            "category": np.array(["spam", "hate_speech", "ünïcode"])[k % 3],
            "language": np.array(["en", "de", None, "hi", "en"], object)[k * 7 % 5],
            "score": (k * 7919 % 10_007) / 10_007,
            "label": np.where(drawn, (k % 7 == 0).astype(float), np.nan),
            "inclusion_prob": np.where(drawn | (k % 4 == 0), (1 + k % 97) / 101, np.nan),
            "zone": np.array(["auto_remove", "review", "none", "elsewhere", None], object)[k * 11 % 5],
            "region": np.array(["DE", "IN", None, "US"], object)[k * 13 % 4],
            "author_group": np.array(["a", "b", "c"], object)[k * 5 % 3],
            "split": np.array(["test", "calib"])[(k % 11 == 0).astype(int)],
        }
    )


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_the_cubes_of_a_fixed_table_are_the_stored_ones(tmp_path, suffix) -> None:
    rows, path = _rows(), tmp_path / f"scores.{suffix}"
    rows.to_parquet(path, row_group_size=3000) if suffix == "parquet" else rows.to_csv(path, index=False)
    groups = ["region", "region*author_group"]
    selection = score_rows.select(path, scores.Columns(), groups, wanted="test", other="calib")
    smallest = {"auto_remove": 0.125, "review": 0.5}
    cubes, facts = score_rows.build_cubes(selection, groups, None, smallest, frozenset({"post-3", "post-21"}))
    assert (facts.num_rows, facts.num_labelled) == (18_181, 6_060)
    found = {}
    for name, cube in cubes.items():
        axes = json.dumps([cube.categories, cube.languages, cube.groups, cube.group_column]).encode()
        numbers = b"".join(np.ascontiguousarray(part).tobytes() for part in (cube.keys, cube.moments, cube.frame_max_weight))
        found[name] = hashlib.sha256(axes + numbers).hexdigest()[:16]
    assert found == STORED
