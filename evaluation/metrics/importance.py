"""What each source of the fusion layer earns: how much better posts are ranked with it than without, with an interval."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from upheld.common.errors import BadUse
from upheld.evaluation.metrics.paired import paired_auc
from upheld.feature_store.contracts.tables import ABLATIONS


def read(path: Path) -> pd.DataFrame:
    """Read the table that the stage fusion writes, in the columns of ABLATIONS; it may have no row.

    Raises:
        BadUse: the file is unreadable, lacks a column, or holds a value that its column cannot have.
    """
    try:
        table = pa.Table.from_pandas(pd.read_parquet(path, columns=ABLATIONS.names), schema=ABLATIONS, preserve_index=False)
        table.validate(full=True)
    except (OSError, ValueError, TypeError, pa.ArrowException) as error:
        raise BadUse(f"{path}: not what fusion says with and without its sources ({error}); run the stage fusion again") from error
    rows: pd.DataFrame = table.to_pandas()
    bad = ~(rows["weight"].between(0, np.inf, inclusive="neither") & rows["prob"].between(0, 1) & rows["prob_without"].between(0, 1))
    if bad.any():
        row = int(bad.to_numpy().argmax()) + 1
        raise BadUse(f"{path}: row {row}: expected a weight above 0 and probabilities in [0, 1]; run the stage fusion again")
    return rows


def measure(rows: pd.DataFrame, alpha: float) -> list[dict[str, Any]]:
    """Compare ROC-AUC with and without each source, on the same posts, weighted by 1 / inclusion_prob.

    Args:
        rows: as `read` gives them.
        alpha: two-sided error of the intervals, in (0, 1).

    Returns:
        policy, source, num (posts), roc_auc (with it), change (with it less without), low, high (its interval), reason (why they are
        undefined, and then None), for each policy the source that earns most first.
    """
    found = []
    for (policy, source), part in rows.groupby(["policy", "source"]):
        label, weight, whole, without = (part[name].to_numpy(np.float64) for name in ("label", "weight", "prob", "prob_without"))
        areas = paired_auc(label, weight, whole, without, np.full(len(part), "fusion"), alpha)
        change = areas.change
        figures = (
            {} if change.reason else {"roc_auc": areas.challenger, "change": change.value, "low": change.ci_low, "high": change.ci_high}
        )
        empty = dict.fromkeys(("roc_auc", "change", "low", "high"))
        found.append({"policy": str(policy), "source": str(source), "num": len(part), **empty, **figures, "reason": change.reason})
    return sorted(found, key=lambda one: (one["policy"], -(one["change"] if one["change"] is not None else -2.0), one["source"]))
