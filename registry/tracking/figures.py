"""The cells of a run's evaluation, by name."""

from pathlib import Path

import pandas as pd


def cells(table: Path) -> dict[str, float]:
    """Defined metrics of a metrics.parquet by name `metric/category/language`, of all-group cells; undefined ones stay out, never 0."""
    rows = pd.read_parquet(table)
    rows = rows[rows.value.notna() & (rows.group_column == "all")]
    names = rows.metric + "/" + rows.category + "/" + rows.language
    return dict(zip(names, rows.value.astype(float), strict=True))
