"""Functional suites (HateCheck-style) and paired suites: cases with an expected label, checked before any model sees them."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from upheld.common.errors import BadUse
from upheld.evaluation.scores import files
from upheld.evaluation.scores.table import Columns

REQUIRED = ("case_id", "text", "language", "functionality", "label", "category")
# pair_id: cases that should score alike (translations, swapped identities); ref_case_id: the case that this one is a variant of.
OPTIONAL = ("pair_id", "ref_case_id", "identity")
LABELS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}


def read(path: Path, columns: Columns, violation: str | None = None) -> pd.DataFrame:
    """Read a suite.

    Args:
        path: Parquet, CSV or JSONL file, or a folder of them.
        columns: other names and constants for the columns above.
        violation: the value of `label` that expects a violation, where labels are words; the one other value expects none.

    Returns:
        the columns of REQUIRED and OPTIONAL: texts without nulls (a missing language is `und`), label int 0 or 1, optional ones
        with None where there is nothing.

    Raises:
        BadUse: a column or a value is missing, a label is neither 0 nor 1, or a case_id comes twice; the message names file and row.
    """
    cases = pd.concat([_file(file, columns) for file in files.find(path)], ignore_index=True)
    if cases.empty:
        raise BadUse(f"{path}: no case; expected one row a case")
    cases["language"] = cases["language"].fillna("und")
    for name in REQUIRED:
        _refuse(path, cases[name].isna(), name, "is empty")
    cases["label"] = _labels(path, cases["label"].str.strip(), violation)
    _refuse(path, cases["case_id"].duplicated(), "case_id", "comes twice")
    return cases


def _file(file: Path, columns: Columns) -> pd.DataFrame:
    there = files.column_names(file)
    sources = {name: columns.renames.get(name, name) for name in (*REQUIRED, *OPTIONAL)}
    unknown = sorted((columns.renames.keys() | columns.constants.keys()) - sources.keys())
    if unknown:
        raise BadUse(f"--columns {unknown[0]}: no column of a suite; expected one of {', '.join(sources)}")
    for name, source in sources.items():
        wanted = name in REQUIRED or name in columns.renames
        if wanted and name not in columns.constants and source not in there:
            raise BadUse(f"{file}: no column {source!r} for {name}; it has {', '.join(there[:30])}; map one with --columns {name}=COLUMN")
    found = {name: source for name, source in sources.items() if name not in columns.constants and source in there}
    parts = [batch.to_pandas() for batch in files.batches(file, tuple(dict.fromkeys(found.values())))]
    rows = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(found.values()))
    content: dict[str, Any] = {name: _texts(file, rows[source], name) for name, source in found.items()}
    content |= columns.constants
    return pd.DataFrame(content, index=rows.index, columns=[*REQUIRED, *OPTIONAL], dtype=object)


def _texts(file: Path, values: "pd.Series[Any]", name: str) -> "pd.Series[Any]":
    """Values as text; None where there is nothing or only white space."""
    nested = [value for value in values if isinstance(value, list | dict | np.ndarray)]
    if nested:
        raise BadUse(f"{file}: column {name}: expected one value a row, found {type(nested[0]).__name__}")
    texts = [None if pd.isna(value) or not str(value).strip() else str(value) for value in values]
    return pd.Series(texts, index=values.index, dtype=object)


def _labels(path: Path, labels: "pd.Series[Any]", violation: str | None) -> "pd.Series[Any]":
    if violation is None:
        known = labels.str.lower().map(LABELS)
        _refuse(path, known.isna(), "label", "is neither 0 nor 1; name the word for a violation with --violation")
        return known.astype(int)
    words = sorted(labels.unique())
    if violation not in words or len(words) > 2:
        raise BadUse(f"{path}: column label: expected {violation!r} and one other word, found {', '.join(map(repr, words[:5]))}")
    return (labels == violation).astype(int)


def _refuse(path: Path, bad: "pd.Series[bool]", name: str, what: str) -> None:
    if bad.any():
        raise BadUse(f"{path}: row {int(bad.to_numpy().argmax()) + 1}: column {name}: {what}")
