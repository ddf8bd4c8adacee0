"""The few figures of an evaluation that stand for it where runs are compared: in `dvc metrics` and as the metrics of MLflow's run."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from upheld.evaluation.metrics.rows import ALL
from upheld.evaluation.robustness.figures import RECALL
from upheld.evaluation.robustness.table import ENSEMBLE

# With hundreds beside them MLflow's pages hide what matters; map_50 is the logo detector's.
LOST_TO_SEARCH = f"recall_lost_to_search/worst/{ALL}"
HEADLINES = ("roc_auc", "pr_auc", "ce2_debiased", "recall", "precision_auto_remove", "map_50")


def headlines(
    metrics: pd.DataFrame, logos: Mapping[str, Mapping[str, Any] | None], attacks: pd.DataFrame | None = None
) -> dict[str, float]:
    """The HEADLINES by name `metric/category/all`, of all groups and languages together; undefined ones stay out, never 0.

    LOST_TO_SEARCH is the recall that the ensemble loses to the attack `search` in the category that loses most.

    Args:
        metrics: as in metrics.parquet.
        logos: `figures` of `logos.read`; they go by category `logo`.
        attacks: of `robustness.figures.measure`, or None where no attack was tried.
    """
    of_all = (metrics.group_column == ALL) & (metrics.language == ALL)
    rows = metrics[of_all & metrics.metric.isin(HEADLINES) & metrics.value.notna()]
    found = dict(zip(rows.metric + "/" + rows.category + "/" + ALL, rows.value.astype(float).tolist(), strict=True))
    measured = {name: row["value"] for name, row in logos.items() if name in HEADLINES and row is not None}
    found |= {f"{name}/logo/{ALL}": float(value) for name, value in measured.items() if value is not None}
    if attacks is None:
        return found
    pooled = attacks[(attacks.language == ALL) & (attacks.member == ENSEMBLE) & (attacks.metric == RECALL)]
    lost = pooled.lost[pooled.attack == "search"].dropna()
    return found | ({} if lost.empty else {LOST_TO_SEARCH: float(lost.max())})
