"""Finished workspaces as the graph leaves them, small enough to register in a second, and a registry of three models."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from upheld.registry.runs import register
from upheld.training.pipeline import bundle


def thresholds_json(threshold: float | None, outcome: str = "certified", calibration: str | None = "c" * 64) -> dict[str, Any]:
    removal = {"threshold": threshold, "outcome": outcome, "bound": 0.953, "target": 0.95, "delta": 0.1, "n": 812, "n_eff": 640.2}
    review = {"threshold": 0.4, "outcome": "insufficient", "need_n": 5582}
    return {"calibration_digest": calibration, "synthetic": True, "categories": {"spam": {"auto_remove": removal, "review": review}}}


def check(name: str, scope: str, status: str, reason: str) -> dict[str, Any]:
    return {"name": name, "scope": scope, "value": 0.7, "bound": 0.6, "status": status, "reason": reason}


def write_report(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.md").write_text("# Hold\n\nHold: 1 check failed.\n\n## Summary by category\n\n| far | below |\n")
    (folder / "first_screen.md").write_text("### Hold\n\nHold: 1 check failed.\n")
    (folder / "report.html").write_text("<!doctype html><title>Report</title><h1>Hold</h1>")


def write_workspace(
    folder: Path,
    *,
    lock: str = "lock-1",
    threshold: float | None = 0.9,
    learning_rate: float = 0.1,
    gate: str = "hold",
    champion: int | None = None,
    incumbent: str | None = None,
) -> Path:
    for name in ("data/snapshot", "data/calibration", "data/evaluation", "data/logo", "data/logo_evaluation", "models/fusion"):
        (folder / name).mkdir(parents=True)
    (folder / "dvc.lock").write_text(lock)
    (folder / "dvc.yaml").write_text("stages: {}\n")
    (folder / "params.yaml").write_text(f"seed: 1\ntext:\n  learning_rate: {learning_rate}\n")
    (folder / "run.json").write_text(json.dumps({"run_id": folder.name, "dag_id": "retrain", "code_commit": "abc123", "code_dirty": False}))
    (folder / "data/inputs.json").write_text(json.dumps({"tables": {"posts": 3}, "champion": None, "ledger_digest": "d" * 64}))
    manifest = {"digest": "e" * 64, "as_of": "2026-10-25T23:59:59+00:00", "synthetic": True, "counts": {"train": 7}}
    manifest |= {"champion": champion and {"version": champion, "digest": "f" * 64}}
    (folder / "data/snapshot/manifest.json").write_text(json.dumps(manifest))
    (folder / "data/calibration/thresholds.json").write_text(json.dumps(thresholds_json(threshold)))
    checks = [] if gate == "promote" else [check("roc_auc", "spam/all", "fail", "40 labelled rows do not settle it")]
    (folder / "data/evaluation/gate.json").write_text(json.dumps({"decision": gate, "checks": checks}))
    write_report(folder / "data/evaluation")
    cells = [("roc_auc", "spam", "en", "all", 0.75), ("recall", "spam", "tr", "all", None), ("recall", "spam", "en", "region", 0.5)]
    if champion is not None:
        names = {"roc_auc_change": 0.0125, "roc_auc_same_posts": 0.7625, "roc_auc_comparator": 0.75, "recall_change": 0.02}
        cells += [(name, "spam", "all", "all", value) for name, value in names.items()]
    table = pd.DataFrame(cells, columns=["metric", "category", "language", "group_column", "value"])
    table.assign(ci_low=table.value - 0.01, ci_high=table.value + 0.01, n=300, reason=None).to_parquet(
        folder / "data/evaluation/metrics.parquet"
    )
    lost = {
        "policy": "spam",
        "language": "all",
        "modality": "text",
        "attack": "search",
        "member": "ensemble",
        "metric": "recall",
        "lost": 0.2,
    }
    pd.DataFrame([lost]).to_parquet(folder / "data/evaluation/robustness.parquet")
    (folder / "data/evaluation/metrics.json").write_text(json.dumps({"roc_auc/spam/all": 0.75, "map_50/logo/all": 0.5}))
    write_logos(folder)
    (folder / "models/fusion/metadata.json").write_text(json.dumps({"incumbent": incumbent, "members": {}, "unheard": []}))
    epochs = [{"epoch": n, "train_loss": 1 / n, "loss": 2 / n, "roc_auc": {"spam": 0.5 + n / 10, "hate_speech": None}} for n in (1, 2)]
    photos = [{"epoch": 1, "train_loss": 1.5, "map_50": 0.25, "score": 0.25}]
    for name, history in (("text", epochs), ("image", [epochs[0] | {"epoch": 0, "train_loss": None}]), ("audio", []), ("logo", photos)):
        (folder / "models" / name).mkdir(parents=True)
        (folder / "models" / name / "metadata.json").write_text(json.dumps({"history": history} if history else {"trained": False}))
    return folder


def write_logos(folder: Path) -> None:
    """What the logo stages leave behind: a figure for all brands together, one for a brand, and one that is undefined."""
    (folder / "data/logo/dataset.json").write_text(json.dumps({"digest": "b" * 64, "counts": {"brands": {"acme": 3}}}))
    cells = [("map_50", "all", 0.5), ("ap_50", "brand", 0.25), ("precision", "all", None)]
    table = pd.DataFrame(cells, columns=["metric", "group_column", "value"]).assign(category="logo", language="all")
    table.to_parquet(folder / "data/logo_evaluation/metrics.parquet")
    table.iloc[:0].to_parquet(folder / "data/logo_evaluation/confusion.parquet")
    (folder / "data/logo_evaluation/logo.json").write_text(json.dumps({"threshold": 0.5, "untrained": None}))


def assemble(workspace: Path, out: Path) -> Path:
    """Stands in for `upheld.training.pipeline.bundle.assemble`."""
    out.mkdir(parents=True)
    (out / "pipeline.json").write_text(json.dumps({"lock": (workspace / "dvc.lock").read_text(), "policies": ["spam"]}))
    return out


def register_two_that_pass_and_one_that_is_held(store: Path) -> None:
    """Models 1 and 2 pass the gate; it holds model 3, which removes nothing automatically."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundle, "assemble", assemble)
        register.run(write_workspace(store / "runs/run-1", lock="1", gate="promote"), store)
        register.run(write_workspace(store / "runs/run-2", lock="2", gate="promote", champion=1, threshold=0.8), store)
        register.run(write_workspace(store / "runs/run-3", lock="3", champion=1, threshold=None), store)
