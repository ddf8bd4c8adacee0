"""report.json to the two pages people read: one self-contained HTML file, and Markdown for mail and chat."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from evaluation.report import charts, sentences, svg

FOLDER = Path(__file__).parent
PROBABILITIES = ("roc_auc", "pr_auc", "bpsn_auc", "bnsp_auc", "brier", "ce2_debiased")
RATIOS = ("fpr_ratio", "fnr_ratio", "wrongful_removal_ratio")
COUNTS = ("rows", "labelled")
VERDICT_WORDS = {"PASS": "✓ within", "WARN": "! stands out", "FAIL": "✕ too far", "INSUFFICIENT": "? not enough"}
STATUS_WORDS = {"pass": "✓ pass", "warn": "! warn", "fail": "✕ fail", "insufficient": "? not enough", "not_applicable": "– none"}


def html(story: Mapping[str, Any]) -> str:
    """The report as one HTML page without script, font or network; every text of the data is escaped."""
    page = _environment(autoescape=True).get_template("report.html.j2")
    return page.render(story=story, style=Markup((FOLDER / "style.css").read_text(encoding="utf-8")))  # noqa: S704 (our own file)


def markdown(story: Mapping[str, Any]) -> str:
    """The report's first screen and summary as Markdown, for mail and chat."""
    page = _environment(autoescape=False).get_template("report.md.j2")
    return page.render(story=story)


def number(name: str, value: float | None) -> str:
    """A metric's value as a reader wants it: shares in percent, areas with three digits, counts whole."""
    if value is None:
        return "—"
    if name in COUNTS:
        return f"{value:,.0f}"
    if name == "ce2_debiased" or name == "brier":
        return f"{value:.4f}"
    if name in PROBABILITIES:
        return f"{value:.3f}"
    if name in RATIOS:
        return f"{value:.2f} ×"
    if name.endswith("_gap"):
        return f"{100 * value:+.1f} pts"
    return f"{value:+.3f}" if name.endswith("_change") else sentences.share(value)


def span(name: str, row: Mapping[str, Any]) -> str:
    """The interval of a metric, or nothing."""
    if row["ci_low"] is None:
        return ""
    if row["ci_high"] is None:
        return f"at least {number(name, row['ci_low'])}"
    return f"{number(name, row['ci_low'])} to {number(name, row['ci_high'])}"


def plain(text: Any) -> str:
    """Text of the data inside Markdown: one line, with everything that Markdown or HTML would act on escaped."""
    line = " ".join(str(text).split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]()#+!|~])", r"\\\1", line)


def _environment(*, autoescape: bool) -> Environment:
    environment = Environment(  # noqa: S701 (off only for Markdown, whose template escapes through `plain`)
        loader=FileSystemLoader(FOLDER), autoescape=autoescape, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"words": sentences.words, "scope": sentences.scope, "share": sentences.share, "plain": plain, "capitalize_first": sentences.capital}
    environment.globals |= {
        "charts": charts,
        "bar": svg.interval_bar,
        "number": number,
        "span": span,
        "verdicts": VERDICT_WORDS,
        "statuses": STATUS_WORDS,
    }
    return environment
