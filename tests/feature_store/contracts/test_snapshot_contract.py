"""Reading a snapshot: what is not one is refused by name."""

import json
from pathlib import Path

import pandas as pd
import pytest

from upheld.common.errors import FailedWork
from upheld.feature_store.contracts.snapshot import (
    EXAMPLES,
    EXAMPLES_FILE,
    MANIFEST_FILE,
    POSTS,
    POSTS_FILE,
    SERVED,
    SERVED_FILE,
    UNREVIEWED_FILE,
    pins_of,
    read_manifest,
    read_snapshot,
)

PINNED = {"features": {"ocr": {"lance_version": 3, "extractor_version": "1-a", "kind": "image"}}, "features_location": None}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, schema in ((POSTS_FILE, POSTS), (EXAMPLES_FILE, EXAMPLES), (UNREVIEWED_FILE, POSTS), (SERVED_FILE, SERVED)):
        schema.empty_table().to_pandas().to_parquet(tmp_path / name)
    (tmp_path / MANIFEST_FILE).write_text(json.dumps({"digest": "d", **PINNED}))
    return tmp_path


def test_a_snapshot_has_its_tables_and_says_which_features_it_was_made_from(folder: Path) -> None:
    data = read_snapshot(folder)
    assert (list(data.posts), list(data.examples), data.manifest["digest"]) == (POSTS.names, EXAMPLES.names, "d")
    assert (list(data.unreviewed), list(data.served)) == (POSTS.names, SERVED.names)
    assert pins_of(data.manifest).model_dump() == PINNED


@pytest.mark.parametrize(
    ("name", "column"), [(POSTS_FILE, "text"), (EXAMPLES_FILE, "weight"), (UNREVIEWED_FILE, "text"), (SERVED_FILE, "score")]
)
def test_a_column_that_is_missing_is_named(folder: Path, name: str, column: str) -> None:
    pd.read_parquet(folder / name).drop(columns=column).to_parquet(folder / name)
    with pytest.raises(FailedWork, match=f"{name}: no column '{column}'; expected post_id, .*run the stage snapshot again"):
        read_snapshot(folder)


def test_a_manifest_that_is_missing_or_no_json_is_no_snapshot(folder: Path) -> None:
    (folder / MANIFEST_FILE).write_text("{")
    with pytest.raises(FailedWork, match="not a readable snapshot"):
        read_manifest(folder)
    (folder / MANIFEST_FILE).unlink()
    with pytest.raises(FailedWork, match=f"not a readable snapshot .*{MANIFEST_FILE}"):
        read_snapshot(folder)
