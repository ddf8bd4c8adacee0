"""A finished workspace as the graph leaves it, small enough to register in a second."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from training import pipeline


def write_workspace(folder: Path, *, lock: str = "lock-1", threshold: float | None = 0.9, learning_rate: float = 0.1) -> Path:
    for name in ("data/snapshot", "data/calibration", "data/evaluation"):
        (folder / name).mkdir(parents=True)
    (folder / "dvc.lock").write_text(lock)
    (folder / "dvc.yaml").write_text("stages: {}\n")
    (folder / "params.yaml").write_text(f"seed: 1\ntext:\n  learning_rate: {learning_rate}\n")
    (folder / "run.json").write_text(json.dumps({"run_id": folder.name, "dag_id": "retrain", "code_commit": "abc123", "code_dirty": False}))
    (folder / "data/inputs.json").write_text(json.dumps({"tables": {"posts": 3}, "champion": None, "ledger_digest": "d" * 64}))
    manifest = {"digest": "e" * 64, "as_of": "2026-10-25T23:59:59+00:00", "synthetic": True, "counts": {"train": 7}}
    (folder / "data/snapshot/manifest.json").write_text(json.dumps(manifest))
    bounds = {"spam": {"auto_remove": {"threshold": threshold}, "review": {"threshold": 0.4}}}
    (folder / "data/calibration/thresholds.json").write_text(json.dumps({"categories": bounds}))
    (folder / "data/evaluation/gate.json").write_text(json.dumps({"decision": "hold", "checks": []}))
    cells = [("roc_auc", "spam", "en", "all", 0.75), ("recall", "spam", "tr", "all", None), ("recall", "spam", "en", "region", 0.5)]
    table = pd.DataFrame(cells, columns=["metric", "category", "language", "group_column", "value"])
    table.to_parquet(folder / "data/evaluation/metrics.parquet")
    return folder


@pytest.fixture
def make_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    def assemble(workspace: Path, out: Path) -> Path:
        out.mkdir(parents=True)
        (out / "pipeline.json").write_text(json.dumps({"lock": (workspace / "dvc.lock").read_text()}))
        return out

    monkeypatch.setattr(pipeline, "assemble", assemble)
    return lambda name, **content: write_workspace(tmp_path / "runs" / name, **content)
