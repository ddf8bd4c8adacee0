"""Indicators of accuracy and error of automated means, per official EU language, as a CSV for a transparency report.

The columns are those of the quantitative template of Commission Implementing Regulation (EU) 2024/2835. Names of section and indicators
are our own words, for the provider to map onto the template's rows; which rows apply to a service is the provider's to say.

usage: upheld dsa-export --metrics data/evaluation/metrics.parquet --report data/evaluation/report.json --service S --out dsa.csv
"""

import csv
import io
import json
import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import pyarrow as pa
import typer

from upheld.common import files
from upheld.common.command import PARAM_OPTIONS, STORE_FOLDER, Output, ParamOptions, StoreFolder, command
from upheld.common.errors import BadUse
from upheld.common.params import params
from upheld.common.params.evaluation import DsaExport
from upheld.common.terminal import console
from upheld.evaluation.metrics.rows import ALL, COLUMNS

HEADER = ("Applicability", "Service", "Reporting period", "Section", "Indicator", "Scope", "Value", "Contextual Information")
SECTION = "Automated means used for content moderation"
# Source: Council Regulation No 1 of 1958 determining the languages to be used, as amended: Article 1.
OFFICIAL_LANGUAGES = {
    "bg": "Bulgarian", "cs": "Czech", "da": "Danish", "de": "German", "el": "Greek", "en": "English", "es": "Spanish", "et": "Estonian",
    "fi": "Finnish", "fr": "French", "ga": "Irish", "hr": "Croatian", "hu": "Hungarian", "it": "Italian", "lt": "Lithuanian",
    "lv": "Latvian", "mt": "Maltese", "nl": "Dutch", "pl": "Polish", "pt": "Portuguese", "ro": "Romanian", "sk": "Slovak",
    "sl": "Slovenian", "sv": "Swedish",
}  # fmt: skip
# Metric of metrics.parquet -> indicator, and its definition. "Flagged": sent to a person, or removed automatically.
INDICATORS = {
    "accuracy": ("Detection: accuracy", "share of posts on which the system (flagged or not) and human reviewers agree"),
    "error_rate": ("Detection: error rate", "share of posts on which the system (flagged or not) and human reviewers disagree"),
    "precision": ("Detection: precision", "share of flagged posts that human reviewers judge to be violations"),
    "recall": ("Detection: recall", "share of violations, as human reviewers judge them, that are flagged"),
    "fpr": ("Detection: false positive rate", "share of posts without violation that are flagged"),
    "fnr": ("Detection: false negative rate", "share of violations that are not flagged"),
    "precision_auto_remove": ("Automatic removal: precision", "share of automatic removals that human reviewers confirm"),
    "recall_auto_remove": ("Automatic removal: recall", "share of violations that are removed automatically"),
    "wrongful_removal_share": ("Automatic removal: error rate", "share of automatic removals that human reviewers do not confirm"),
    "fpr_auto_remove": ("Automatic removal: false positive rate", "share of posts without violation that are removed automatically"),
}
FORMULA_STARTS = "=+-@"


@dataclass(frozen=True)
class Report:
    """What stands in every row: applicability, service and period as the provider states them."""

    service: str
    period: str
    applicability: str


def run(settings: DsaExport, metrics_file: Path, report_file: Path, out: Path, report: Report) -> list[dict[str, str]]:
    """Write the CSV: a row per category, official language (present in the data or not) and indicator, and one for all languages.

    Args:
        settings: the widest interval with which a value is still stated.
        metrics_file: metrics.parquet of `upheld evaluate`.
        report_file: its report.json.
        out: CSV by RFC 4180, UTF-8.
        report: what the provider states; an empty period is taken from the data.

    Returns:
        the rows, by `HEADER`; Value is empty where the evidence is insufficient, and the context says why.

    Raises:
        BadUse: a file is not what evaluate writes, or no period is known; nothing is written then.
    """
    try:
        table = pd.read_parquet(metrics_file)
    except (OSError, pa.ArrowException) as error:
        why = " ".join(str(error).split())[:200]
        raise BadUse(f"{metrics_file}: cannot be read ({why}); expected metrics.parquet of `upheld evaluate`") from error
    missing = [name for name in COLUMNS if name not in table]
    if missing:
        raise BadUse(f"{metrics_file}: no column {missing[0]!r}; expected metrics.parquet of `upheld evaluate`")
    table = table[(table.group_column == ALL) & table.metric.isin(INDICATORS)]
    if "accuracy" not in set(table.metric):
        raise BadUse(f"{metrics_file}: no metric 'accuracy'; evaluate the scores again with this version")
    try:
        story: dict[str, Any] = json.loads(report_file.read_text(encoding="utf-8"))
        story["limits"]["interval_error"], story["synthetic"], story["data"]["periods"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadUse(f"{report_file}: cannot be read ({error!r}); expected report.json of `upheld evaluate`") from error
    periods = story["data"]["periods"]
    if not (report.period or periods):
        raise BadUse(f"{report_file}: the scores had no column period; state the reporting period with --period")
    period = report.period or (str(periods[0]) if len(periods) == 1 else f"{periods[0]} to {periods[-1]}")
    interval = f"{(1 - story['limits']['interval_error']):.0%} interval"
    notes = ["Synthetic data: no statement on a real service"] if story["synthetic"] else []
    fixed = {"Applicability": report.applicability, "Service": report.service, "Reporting period": period, "Section": SECTION}
    cells = table.set_index(["category", "language", "metric"]).to_dict("index")
    rows = []
    for category in sorted(table.category.unique()):
        # (language of the data, text of the scope): all of them, then each official language or, by its tag, each variety of it.
        scopes = [(ALL, f"Category {category}; all languages in the data, official or not")]
        there = sorted(table.language[table.category == category].unique())
        for code, name in OFFICIAL_LANGUAGES.items():
            tags = [tag for tag in there if tag.lower().split("-")[0] == code] or [code]
            scopes += [(tag, f"Category {category}; {name} ({tag})") for tag in tags]
        for language, scope in scopes:
            for metric, (indicator, _) in INDICATORS.items():
                stated = _cell(cells, (category, language, metric), settings.max_interval, interval, notes)
                rows.append({name: safe(text) for name, text in {**fixed, "Indicator": indicator, "Scope": scope, **stated}.items()})
    page = io.StringIO(newline="")
    writer = csv.DictWriter(page, HEADER, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(rows)
    files.write_text(out, page.getvalue())
    return rows


def safe(text: str) -> str:
    """A cell that no spreadsheet takes for a formula: one line without control characters, an apostrophe before =, +, - and @.

    Source: OWASP, "CSV Injection"; full-width forms are folded before they are compared, as some spreadsheets do.
    """
    line = " ".join("".join(" " if unicodedata.category(char) in ("Cc", "Cf") else char for char in text).split())
    return f"'{line}" if unicodedata.normalize("NFKC", line[:1]).startswith(tuple(FORMULA_STARTS)) else line


def _cell(
    cells: Mapping[Any, Mapping[Any, Any]], key: tuple[str, str, str], widest: float, interval: str, notes: Sequence[str]
) -> dict[str, str]:
    """Value and context of one cell."""
    category, language, metric = key
    cell = cells.get((category, language, "accuracy" if metric == "error_rate" else metric))
    about = f"Definition: {INDICATORS[metric][1]}"
    if cell is None:
        removal = cells.get((category, language, "precision_auto_remove"))
        why = "no post in this language in the period" if removal is None else removal["reason"]
        return {"Value": "", "Contextual Information": ". ".join([about, f"No value: {why}", *notes])}
    value, low, high = (None if pd.isna(cell[name]) else float(cell[name]) for name in ("value", "ci_low", "ci_high"))
    if metric == "error_rate" and value is not None and low is not None and high is not None:
        value, low, high = 1 - value, 1 - high, 1 - low
    reason = [] if pd.isna(cell["reason"]) else [str(cell["reason"])]
    counted = f"n = {cell['n']:.0f} labelled posts" + (f", {cell['n_eff']:.0f} in effect" if cell["n_eff"] < cell["n"] else "")
    if value is None or low is None or high is None:
        return {"Value": "", "Contextual Information": ". ".join([about, f"No value: {'; '.join(reason) or 'undefined'}", counted, *notes])}
    span = f"{interval} {low:.4f} to {high:.4f}"
    if high - low > widest:
        need = math.ceil(cell["n"] * ((high - low) / widest) ** 2)
        why = f"No value: not enough evidence, the {span} is wider than {widest:g}; about {need} labelled posts would be needed"
        return {"Value": "", "Contextual Information": ". ".join([about, why, counted, *reason, *notes])}
    return {"Value": f"{value:.4f}", "Contextual Information": ". ".join([about, counted, span, *reason, *notes])}


@command("dsa-export")
def main(
    metrics: Annotated[Path, typer.Option(help="metrics.parquet of `upheld evaluate`.")],
    report: Annotated[Path, typer.Option(help="report.json beside it.")],
    service: Annotated[str, typer.Option(help="Name of the service.")],
    out: Annotated[Path, typer.Option(help="CSV to write.")],
    period: Annotated[str, typer.Option(help="Reporting period; without it, the periods of the data.")] = "",
    applicability: Annotated[str, typer.Option(help="Type of provider, as the template's first column asks.")] = "",
    asked: ParamOptions = PARAM_OPTIONS,
    store: StoreFolder = STORE_FOLDER,
) -> Output:
    """Indicators per official EU language as CSV, in the columns of Implementing Regulation (EU) 2024/2835."""
    section = params.load(*asked, store).dsa_export
    rows = run(section, metrics, report, out, Report(service, period, applicability))
    stated = sum(bool(row["Value"]) for row in rows)
    text = f"{len(rows)} rows, {stated} with a value, {len(rows) - stated} without enough evidence (each says why): {out}"
    content = {"out": str(out), "rows": len(rows), "stated": stated}
    return Output(content, lambda: console().print(text, markup=False, highlight=False, soft_wrap=True))
