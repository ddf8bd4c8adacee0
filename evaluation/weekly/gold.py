"""Items whose truth was adjudicated, against which reviewers are measured."""

from pathlib import Path

import pandas as pd

from upheld.common.errors import BadUse
from upheld.evaluation.scores import files

GOLD = ("post_id", "category", "label")


def read(path: Path | None) -> pd.DataFrame:
    """post_id, category (str) and label (0 or 1) of every item; none where there is no file.

    Raises:
        BadUse: a column is missing, a label is neither 0 nor 1, or an item comes twice.
    """
    if path is None:
        return pd.DataFrame({"post_id": pd.Series(dtype=str), "category": pd.Series(dtype=str), "label": pd.Series(dtype=float)})
    parts = []
    for file in files.find(path):
        absent = [name for name in GOLD if name not in files.column_names(file)]
        if absent:
            raise BadUse(f"{file}: no column {absent[0]!r}; expected {', '.join(GOLD)}")
        parts += [batch.to_pandas().astype(str) for batch in files.batches(file, GOLD)]
    gold: pd.DataFrame = pd.concat(parts, ignore_index=True)
    label = pd.to_numeric(gold.label, errors="coerce")
    wrong = ~label.isin([0, 1]) | gold.duplicated(["post_id", "category"])
    if wrong.any():
        first = gold[wrong].iloc[0]
        raise BadUse(f"{path}: post_id {first.post_id!r}, {first.category}: found label {first.label!r}; expected 0 or 1, once an item")
    return gold.assign(label=label)
