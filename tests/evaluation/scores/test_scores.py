"""What a score table may look like, and how each way of being wrong is named."""

import pandas as pd
import pytest

from upheld.common.errors import BadUse
from upheld.evaluation.scores import selection as score_rows
from upheld.evaluation.scores import table as scores
from upheld.feature_store.contracts.tables import SCORES, SCORES_REQUIRED

GOOD = {"item_id": ["a", "b", "c"], "category": "spam", "language": ["en", "de", None], "score": [0.1, 0.9, 0.5], "label": [0.0, 1.0, None]}


def write(tmp_path, suffix: str = "parquet", **changes):
    frame = pd.DataFrame({**GOOD, **changes})
    path = tmp_path / f"scores.{suffix}"
    {"parquet": lambda: frame.to_parquet(path), "csv": lambda: frame.to_csv(path, index=False)}.get(
        suffix, lambda: frame.to_json(path, orient="records", lines=True)
    )()
    return path


def rows(path, columns=None, names=SCORES_REQUIRED, splits=None):
    return [row for batch in scores.batches(scores.open_table(path, columns), names, splits) for row in batch.to_pylist()]


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_three_formats_say_the_same(tmp_path, suffix) -> None:
    found = rows(write(tmp_path, suffix))
    assert [row["score"] for row in found] == [0.1, 0.9, 0.5]
    assert [row["label"] for row in found] == [0.0, 1.0, None]
    assert [row["language"] for row in found] == ["en", "de", "und"]


def test_columns_are_renamed_and_set(tmp_path) -> None:
    frame = pd.DataFrame({"id": [1, 2], "p": [0.2, 0.3], "y": [True, False], "lang": ["a,b", "c"]})
    frame.to_parquet(tmp_path / "own.parquet")
    columns = scores.parse_columns("item_id=id, score=p,label=y,language=lang,category='hate, speech'")
    found = rows(tmp_path / "own.parquet", columns)
    assert [(row["item_id"], row["category"], row["language"], row["label"]) for row in found] == [
        ("1", "hate, speech", "a,b", 1.0),
        ("2", "hate, speech", "c", 0.0),
    ]


@pytest.mark.parametrize("text", ["score", "score=", "=x", "score=a,score=b"])
def test_a_malformed_mapping_is_named(text) -> None:
    with pytest.raises(BadUse, match="--columns"):
        scores.parse_columns(text)


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
@pytest.mark.parametrize(
    ("column", "values", "expected"),
    [
        ("score", [0.1, 0.2, 1.5], "row 3, column score: found .*1.5"),
        ("score", [0.1, -0.2, 0.5], "row 2, column score"),
        ("score", [0.1, None, 0.5], "row 2, column score"),
        ("score", ["0.1", "much", "0.5"], "row 2, column score: found 'much'"),
        ("label", [0.0, 0.5, None], "row 2, column label"),
        ("label", ["real", "fake", "real"], "row 1, column label: found 'real'"),
        ("category", ["spam", None, "spam"], "row 2, column category"),
        ("language", ["en", "all", "de"], "row 2, column language.*pooled"),
        ("inclusion_prob", [0.5, 0.0, 0.5], "row 2, column inclusion_prob"),
        ("inclusion_prob", [0.5, None, 0.5], "row 2, column inclusion_prob.*draw"),
        ("inclusion_prob", [0.5, 0.7, 1.01], "row 3, column inclusion_prob"),
    ],
)
def test_a_bad_value_is_named_with_file_row_and_column(tmp_path, suffix, column, values, expected) -> None:
    path = write(tmp_path, suffix, **{column: values})
    with pytest.raises(BadUse, match=f"{path.name}: {expected}"):
        rows(path, names=(*SCORES_REQUIRED, "inclusion_prob"))


def test_a_missing_column_is_named_with_what_there_is(tmp_path) -> None:
    path = tmp_path / "scores.parquet"
    pd.DataFrame(GOOD).drop(columns="label").to_parquet(path)
    with pytest.raises(BadUse, match="no column 'label' for label; it has item_id, category, language, score"):
        scores.open_table(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [("x.parquet", b"PAR1 no"), ("x.csv", b""), ("x.jsonl", b"{"), ("x.xlsx", b"a"), ("x.csv", b"a,b\n1\n1,2,3\n"), ("gone.csv", None)],
)
def test_unreadable_files_are_bad_use(tmp_path, name, content) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(BadUse, match=name):
        rows(tmp_path / name)


@pytest.mark.parametrize("split", ["train", "Train", "fusion"])
def test_training_rows_are_refused(tmp_path, split) -> None:
    path = write(tmp_path, split=["test", split, "test"])
    with pytest.raises(BadUse, match=r"row 2, column split.*no evidence"):
        score_rows.select(path, scores.Columns(), (), wanted="test", other="calib")


@pytest.mark.parametrize(
    ("splits", "used", "left"),
    [
        (["calib", "test", "test"], ("test",), {"calib": 1}),
        (["val", "val", "calib"], ("val",), {"calib": 1}),
        (["val", "val", "dev"], ("dev", "val"), {}),
    ],
)
def test_the_wanted_split_is_read_and_the_rest_is_told(tmp_path, splits, used, left) -> None:
    selection = score_rows.select(write(tmp_path, split=splits), scores.Columns(), (), wanted="test", other="calib")
    assert (selection.splits, selection.left_out) == (used, left)


def test_only_the_other_split_is_bad_use(tmp_path) -> None:
    with pytest.raises(BadUse, match="expected rows of 'test', found only 'calib'"):
        score_rows.select(write(tmp_path, split="calib"), scores.Columns(), (), wanted="test", other="calib")


def test_a_folder_of_files_is_one_table(tmp_path) -> None:
    write(tmp_path, "parquet")
    write(tmp_path, "csv")
    assert len(rows(tmp_path)) == 6


def test_the_contract_is_the_one_of_the_feature_store() -> None:
    assert {*scores.REQUIRED, *scores.OPTIONAL} == {*SCORES.names, "synthetic", "model_version"}
