"""data/attacks.parquet: what breaks its contract is named by file, row and column; a table without rows is no error."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from score_worlds import attacks, table

from upheld.common.errors import BadUse
from upheld.evaluation.robustness.table import TYPES, read


def written(folder: Path, rows: pd.DataFrame) -> Path:
    rows.to_parquet(folder / "attacks.parquet")
    return folder / "attacks.parquet"


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return attacks(table(150))


def test_rows_come_as_they_are_written(tmp_path: Path, rows: pd.DataFrame) -> None:
    found = read(written(tmp_path, rows.assign(more="dropped")))
    pd.testing.assert_frame_equal(found, rows[list(TYPES)].astype(TYPES))
    assert found.clean_prob.tolist() == rows.clean_prob.astype(float).tolist()


def test_no_row_is_no_error(tmp_path: Path, rows: pd.DataFrame) -> None:
    found = read(written(tmp_path, rows.iloc[:0]))
    assert (len(found), list(found)) == (0, list(TYPES))


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("attack", "unheard_of", "expected one of swap, homoglyphs"),
        ("member", "audio", "expected one of text, ngrams, image, ensemble"),
        ("modality", "image", "expected what the attack changes"),
        ("language", "all", "the word 'all' is kept"),
        ("language", None, "expected a value"),
        ("post_id", None, "expected a value"),
        ("weight", 0.0, "expected a finite number above 0"),
        ("weight", -1.0, "expected a finite number above 0"),
        ("weight", np.inf, "expected a finite number above 0"),
        ("weight", np.nan, "expected a value"),
        ("clean_prob", 1.5, "expected a probability from 0 to 1"),
        ("attacked_prob", -0.1, "expected a probability from 0 to 1"),
        ("attacked_prob", np.inf, "expected a probability from 0 to 1"),
        ("edits", -1, "expected a number from 0 on"),
    ],
)
def test_a_row_that_breaks_the_contract_is_named(tmp_path: Path, rows: pd.DataFrame, column: str, value: Any, said: str) -> None:
    wrong = rows[rows.modality == "text"].reset_index(drop=True)
    wrong.loc[4, column] = value
    with pytest.raises(BadUse) as refused:
        read(written(tmp_path, wrong))
    assert str(refused.value).startswith(f"{tmp_path}/attacks.parquet: row 5, column {column}: ")
    assert said in str(refused.value)


def test_a_row_that_comes_twice_or_stands_without_the_ensemble_is_named(tmp_path: Path, rows: pd.DataFrame) -> None:
    with pytest.raises(BadUse, match=rf"row {len(rows) + 1}, column member: expected one row of each post"):
        read(written(tmp_path, pd.concat([rows, rows.iloc[[7]]])))
    first = rows[(rows.member == "ensemble") & (rows.post_id == rows.post_id[0]) & (rows.attack == rows.attack[0])].index
    with pytest.raises(BadUse, match="row 1, column member: expected a row of the member ensemble beside it"):
        read(written(tmp_path, rows.drop(index=first)))


def test_another_file_is_named(tmp_path: Path, rows: pd.DataFrame) -> None:
    with pytest.raises(BadUse, match="no column 'weight'; expected post_id"):
        read(written(tmp_path, rows.drop(columns="weight")))
    (tmp_path / "attacks.parquet").write_text("no table")
    for path in (tmp_path / "attacks.parquet", tmp_path / "missing.parquet"):
        with pytest.raises(BadUse, match=f"{path.name}: not a readable table"):
            read(path)
    with pytest.raises(BadUse, match="the stage attack writes it"):
        read(written(tmp_path, rows.assign(weight="heavy")))
