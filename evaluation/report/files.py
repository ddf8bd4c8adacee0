"""The six files of an evaluation, of a stage and of a week alike."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from upheld.common import files
from upheld.evaluation.report import render

FIRST_SCREEN = "first_screen.md"  # what a question about a version shows of its report


@dataclass(frozen=True)
class Result:
    """The long metrics table, the gate's decision and checks, and everything the report shows."""

    metrics: pd.DataFrame
    gate: dict[str, Any]
    report: dict[str, Any]


def write(out: Path, result: Result) -> None:
    """Write metrics.parquet, report.json, report.html, report.md, first_screen.md and gate.json."""
    table, decision, story = result.metrics, result.gate, result.report
    page, mail, screen = render.html(story), render.markdown(story), render.first_screen(story)
    with files.replacing(out / "metrics.parquet") as partial:
        table.to_parquet(partial, index=False)
    files.write_json(out / "report.json", story)
    files.write_text(out / "report.html", page)
    files.write_text(out / "report.md", mail)
    files.write_text(out / FIRST_SCREEN, screen)
    files.write_json(out / "gate.json", decision)  # last: where it is, everything is
