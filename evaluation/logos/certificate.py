"""The certificate of the confidence threshold: at what confidence is a detection a mark of its brand?"""

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from upheld.common import files
from upheld.common.params import params
from upheld.common.params.evaluation import Thresholds
from upheld.evaluation.logos import matches
from upheld.evaluation.scores import selection as score_rows
from upheld.evaluation.scores import table as scores
from upheld.evaluation.thresholds import decide


def certify(
    settings: params.Params, photos: pd.DataFrame, marks: pd.DataFrame, finds: pd.DataFrame, synthetic: bool, table: Path
) -> dict[str, Any]:
    """The certificate of policies, for the question "is this detection a mark of that brand", answered on split val.

    Args:
        settings: read are thresholds and seed.
        photos: image, split.
        marks: image, brand, x1, y1, x2, y2.
        finds: the same and confidence.
        synthetic: whether the photos come from a generator of ours.
        table: where to write the detections in the scores contract.

    Returns:
        threshold (None: abstained), outcome, target, delta, bound, n, need_n, reason and what else `thresholds.decide` tells.
    """
    rows = matches.scores(matches.match(marks, finds), photos.set_index("image")["split"], synthetic)
    with files.replacing(table) as partial:
        pq.write_table(pa.Table.from_pandas(rows, preserve_index=False), partial)
    if not (rows["split"] == "calib").any():
        return abstained(settings.thresholds, "no detection on a photo of split val")
    selection = score_rows.select(table, scores.Columns(), (), wanted="calib", other="test")
    cubes, _ = score_rows.build_cubes(selection, (), None, settings.thresholds.frame_min_inclusion_prob)
    decided = decide.decide(cubes[None], settings.thresholds, incumbent=None, champion=None, seed=settings.seed)
    certificate: dict[str, Any] = decided[matches.CATEGORY]["auto_remove"]
    return {name: value for name, value in certificate.items() if name != "languages"}


def abstained(section: Thresholds, reason: str) -> dict[str, Any]:
    """The certificate where there is nothing to judge by."""
    nothing = {"threshold": None, "outcome": "abstained", "n": 0, "bound": None, "need_n": None}
    return {**nothing, "target": section.precision_target, "delta": section.delta, "reason": reason}
