"""What of a run's evaluation is told where: a few headline figures as the run's metrics, all cells in its tables."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

# Pooled over languages, per category; map_50 is the logo detector's. With hundreds beside them MLflow's pages hide what matters.
HEADLINES = ("roc_auc", "pr_auc", "ce2_debiased", "recall", "precision_auto_remove", "map_50")


def cells(table: Path) -> dict[str, float]:
    """Defined metrics of a metrics.parquet by name `metric/category/language`, of all-group cells; undefined ones stay out, never 0."""
    rows = pd.read_parquet(table)
    rows = rows[rows.value.notna() & (rows.group_column == "all")]
    names = rows.metric + "/" + rows.category + "/" + rows.language
    return dict(zip(names, rows.value.astype(float), strict=True))


def headlines(of_cells: Mapping[str, float]) -> dict[str, float]:
    """The figures of HEADLINES among `cells`, pooled over languages."""
    return {name: value for name, value in of_cells.items() if name.split("/")[0] in HEADLINES and name.endswith("/all")}
