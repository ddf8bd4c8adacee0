"""Rows that come twice are named, whatever the format, the labels and the column names; and nothing else is."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from score_worlds import PARAMS, table

from upheld.common.errors import BadUse
from upheld.evaluation import calibrate, evaluate
from upheld.evaluation.scores import selection
from upheld.evaluation.scores import table as scores


def rows(num: int = 6) -> pd.DataFrame:
    return pd.DataFrame({"item_id": [f"i{k}" for k in range(num)], "category": "spam", "language": "en", "score": 0.5, "label": np.nan})


def refuse(path, columns=None, splits=None) -> None:
    selection.refuse_duplicates(scores.open_table(path, columns), splits)


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_the_second_row_is_named(tmp_path, suffix) -> None:
    twice = pd.concat([rows(), rows(3).tail(1)], ignore_index=True)
    path = tmp_path / f"scores.{suffix}"
    twice.to_parquet(path) if suffix == "parquet" else twice.to_csv(path, index=False)
    with pytest.raises(BadUse, match=r"row 7: item_id 'i2', category 'spam' is in row 3 already; keep one row of each"):
        refuse(path)


def test_files_of_one_table_are_one_table(tmp_path) -> None:
    rows(4).to_parquet(tmp_path / "a.parquet")
    rows(9).tail(6).to_parquet(tmp_path / "b.parquet")
    with pytest.raises(BadUse, match=r"b.parquet: row 1: item_id 'i3', category 'spam' is in .*a.parquet, row 4 already"):
        refuse(tmp_path)


def test_an_item_may_have_several_categories_and_splits(tmp_path) -> None:
    several = pd.concat([rows(), rows().assign(category="hate_speech")])
    both = pd.concat([several.assign(split="calib"), several.assign(split="test")])
    both.to_parquet(tmp_path / "scores.parquet")
    refuse(tmp_path / "scores.parquet", splits=("test",))
    with pytest.raises(BadUse, match="item_id 'i0', category 'spam'"):
        refuse(tmp_path / "scores.parquet")


def test_a_constant_category_and_other_names_count_too(tmp_path) -> None:
    pd.concat([rows(), rows(1)]).drop(columns="category").rename(columns={"item_id": "my id"}).to_parquet(tmp_path / "scores.parquet")
    with pytest.raises(BadUse, match="row 7: item_id 'i0', category 'x'"):
        refuse(tmp_path / "scores.parquet", scores.parse_columns("item_id=my id,category='x'"))


@pytest.mark.parametrize("kind", [pa.int64(), pa.int16(), pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_an_id_is_its_text_whatever_type_a_file_gives_it(tmp_path, kind) -> None:
    first = rows(4).assign(item_id=["5", "6", "7", "8"])
    first.to_csv(tmp_path / "a.csv", index=False)
    other = pa.Table.from_pandas(first.assign(item_id=["9", "10", "7", "11"]), preserve_index=False)
    ids = pa.array([9, 10, 7, 11]) if pa.types.is_integer(kind) else pa.array(["9", "10", "7", "11"])
    pq.write_table(other.set_column(0, "item_id", ids.cast(kind)), tmp_path / "b.parquet")
    with pytest.raises(BadUse, match=r"b.parquet: row 3: item_id '7', category 'spam' is in .*a.csv, row 3 already"):
        refuse(tmp_path)


def test_texts_that_differ_in_one_byte_or_in_length_have_hashes_of_their_own() -> None:
    texts = ["", "a", "a\0", "\0", "ä", *("x" * length for length in (7, 8, 9, 255, 256, 257, 300)), "x" * 256 + "y", "y" + "x" * 299]
    texts += [f"post-{k:08d}" for k in range(50_000)]
    hashes = selection._hash(pa.array(texts))
    assert len(np.unique(hashes)) == len(texts)
    assert (selection._hash(pa.array(texts).slice(3, 12)) == hashes[3:15]).all()


def test_two_keys_of_one_hash_are_no_error(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(selection, "_hash", lambda values: np.zeros(len(values), np.uint64))
    rows().to_parquet(tmp_path / "scores.parquet")
    refuse(tmp_path / "scores.parquet")


@pytest.mark.parametrize("command", [calibrate, evaluate])
def test_both_commands_exit_with_2_and_write_nothing(tmp_path, capfd, command) -> None:
    made = table(400)
    pd.concat([made, made.tail(1)]).to_parquet(tmp_path / "scores.parquet")
    given = ["--scores", str(tmp_path / "scores.parquet"), "--out", str(tmp_path / "out"), "--params", str(PARAMS)]
    store = ["--store", str(tmp_path / "store")] if command is evaluate else []  # calibrate reads none
    assert command.main([*given, *store]) == 2
    assert "row 801: item_id 'i399', category 'hate_speech' is in row 800 already" in " ".join(capfd.readouterr().err.split())
    assert not (tmp_path / "out").exists()
