"""How the networks of a retrain learned, as points of curves: what their loops wrote while they trained, and what their records keep.

By epoch `training/NETWORK/FIGURE`, by batch `training/NETWORK/steps/FIGURE`.
"""

import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from upheld.common import curves
from upheld.feature_store.contracts import workspace as paths
from upheld.registry.tracking.live_run import Point

NETWORKS = (paths.TEXT_MODEL, paths.IMAGE_MODEL, paths.AUDIO_MODEL, paths.LOGO_MODEL)  # each named like its stage


def file_of(workspace: Path, stage: str) -> Path:
    """Where a stage's curves are written; dags/runner/run_stage.py says so to the stage."""
    return workspace / "logs" / f"{stage}.jsonl"


def of_lines(network: str, lines: Iterable[Mapping[str, Any]]) -> list[Point]:
    """Points of lines that `upheld.common.curves` wrote."""
    points = []
    for line in lines:
        points += [
            Point(f"training/{network}/steps/{name}", line["step"], line["time"], float(value))
            for name, value in line.get("figures", {}).items()
        ]
        points += _of_epoch(network, line["epoch"], line["time"]) if "epoch" in line else []
    return points


def of_workspace(workspace: Path) -> list[Point]:
    """Points of every network. One that came out of the cache, or had its head fitted at once, has those of its epochs alone."""
    points, now = [], int(time.time() * 1000)
    for folder in NETWORKS:
        points += of_lines(folder.name, curves.read(file_of(workspace, folder.name), 0)[0])
        for record in json.loads((workspace / folder / "metadata.json").read_text(encoding="utf-8")).get("history", []):
            points += _of_epoch(folder.name, record, now)
    return points


def _of_epoch(network: str, record: Mapping[str, Any], at: int) -> list[Point]:
    """A head that was fitted without epochs has one point, at 0; figures that val has too few labels for stay out."""
    areas = {f"roc_auc/{policy}": area for policy, area in record.get("roc_auc", {}).items()}
    values = {"train_loss": record.get("train_loss"), "val_loss": record.get("loss"), "map_50": record.get("map_50"), **areas}
    return [Point(f"training/{network}/{name}", record["epoch"], at, float(value)) for name, value in values.items() if value is not None]
