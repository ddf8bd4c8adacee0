"""The five files of an evaluation, of a stage and of a week alike."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from evaluation.report import render
from feature_store import atomic


@dataclass(frozen=True)
class Result:
    """The long metrics table, the gate's decision and checks, and everything the report shows."""

    metrics: pd.DataFrame
    gate: dict[str, Any]
    report: dict[str, Any]


def write(out: Path, result: Result) -> None:
    """Write metrics.parquet, report.json, report.html, report.md and gate.json."""
    table, decision, story = result.metrics, result.gate, result.report
    page, mail = render.html(story), render.markdown(story)
    with atomic.replacing(out / "metrics.parquet") as partial:
        table.to_parquet(partial, index=False)
    atomic.write_json(out / "report.json", story)
    atomic.write_text(out / "report.html", page)
    atomic.write_text(out / "report.md", mail)
    atomic.write_json(out / "gate.json", decision)  # last: where it is, everything is
