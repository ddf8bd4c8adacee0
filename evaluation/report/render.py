"""report.json to the pages that people read, one self-contained HTML file and Markdown for mail and chat; the files of an evaluation."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from upheld.common import files
from upheld.common.terminal import visible
from upheld.evaluation.metrics.paired import MIN_CLASS
from upheld.evaluation.report import attacks, charts, comparison, logos, members, sentences, week_story, words
from upheld.evaluation.report.headlines import headlines

FOLDER = Path(__file__).with_name("templates")
KEPT = "\n\t\u200c\u200d"  # the last two join letters in Persian and in emoji
FORMATS = {
    **dict.fromkeys(("rows", "labelled"), "{:,.0f}"),
    **dict.fromkeys(("brier", "ce2_debiased"), "{:.4f}"),
    **dict.fromkeys(("roc_auc", "pr_auc", "bpsn_auc", "bnsp_auc", "map_50", "map_50_95", "ap_50", "logo_map_50"), "{:.3f}"),
    **dict.fromkeys(("roc_auc_same_posts", "roc_auc_comparator"), "{:.3f}"),
    "false_alarms_per_1000": "{:,.1f}",
    **dict.fromkeys(("fpr_ratio", "fnr_ratio", "wrongful_removal_ratio"), "{:.2f} ×"),
}
VERDICT_WORDS = {"PASS": "✓ within", "WARN": "! stands out", "FAIL": "✕ too far", "INSUFFICIENT": "? not enough"}
BEHAVIOUR_WORDS = {"PASS": "✓ meets", "FAIL": "✕ misses", "INSUFFICIENT": "? open"}
STATUS_WORDS = {"pass": "✓ pass", "warn": "! warn", "fail": "✕ fail", "insufficient": "? not enough", "not_applicable": "– none"}
ROBUSTNESS = "robustness.parquet"
FIRST_SCREEN = "first_screen.md"  # what a question about a version shows of its report


def html(story: Mapping[str, Any]) -> str:
    """The report as one HTML page without script, font or network; every text of the data is escaped."""
    page = _environment().get_template("report.html.j2")
    style = Markup((FOLDER / "style.css").read_text(encoding="utf-8"))  # noqa: S704 (our own file)
    return visible(page.render(story=story, style=style), KEPT)


def markdown(story: Mapping[str, Any]) -> str:
    """The report's first screen and summary as Markdown, for mail and chat."""
    page = _environment().get_template("report.md.j2")
    return visible(page.render(story=story), KEPT)


def first_screen(story: Mapping[str, Any]) -> str:
    """The report's first screen as a part of a question to a person (registry/production/proposal.py); headings start at the third level.

    Failed checks are not in it: the question's own part on the gate lists each with what the labels say of it.
    """
    page = _environment().get_template("first_screen.md.j2")
    return visible(page.render(story=story, heading="###", with_stops=False), KEPT)


def number(name: str, value: float | None) -> str:
    """A metric's value as a reader wants it: shares in percent, areas with three digits, counts whole; for what is measured and has
    an interval, see `estimate`."""
    if value is None:
        return "—"
    if name in FORMATS:
        return FORMATS[name].format(value).replace("-0.0000", "0.0000")
    if name.endswith("_lost"):
        return f"{words.points(value)} points"
    if name.endswith("_gap"):
        return f"{100 * value:+.1f} pts"
    return words.part(value) if _is_share(name) else f"{value:+.3f}"


def estimate(name: str, row: Mapping[str, Any]) -> str:
    """A metric's value; a share of none or all is shown by its bound (`words.measured`), never as 0 % or 100 %."""
    return words.measured(row) if _is_share(name) and row["value"] is not None else number(name, row["value"])


def span(name: str, row: Mapping[str, Any]) -> str:
    """What stands beside `estimate`: the interval of a metric, or nothing."""
    if _is_share(name) and row["value"] is not None:
        return words.evidence(row)
    if row["ci_low"] is None:
        return ""
    if row["ci_high"] is None:
        return f"at least {number(name, row['ci_low'])}"
    return f"{number(name, row['ci_low'])} to {number(name, row['ci_high'])}"


def _is_share(name: str) -> bool:
    return name not in FORMATS and not name.endswith(("_gap", "_lost", "_change", "_shift"))


def plain(text: Any) -> str:
    """Text of the data inside Markdown: one line, with everything that Markdown or HTML would act on escaped, addresses included."""
    line = visible(" ".join(str(text).split()), KEPT)
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = re.sub(r"([\\`*_\[\]#|~$@]|(?<=www)\.|:(?=//))", r"\\\1", line, flags=re.IGNORECASE)
    return re.sub(r"^([-+]|\d+(?=[.)]))", r"\\\1", line)


def stands_out(category: Mapping[str, Any]) -> bool:
    """Whether any language of a category fares worse than the others, beyond chance."""
    rows = (
        language["metrics"].get(name) for language in category["languages"] for name in ("fpr_gap", "fnr_gap", "fpr_ratio", "fnr_ratio")
    )
    return any(row and row["verdict"] in ("FAIL", "WARN") for row in rows)


def behave_command(story: Mapping[str, Any]) -> str:
    """The command that runs behaviour tests on the model of a report; only a number of ours gets into it, for people copy it into a
    shell, and whoever delivers decisions names their model."""
    served = re.fullmatch(r"upheld-moderation/([0-9]{1,9})", str(story["weekly"]["model_version"])) if "weekly" in story else None
    return f"upheld behave {served[1] if served else 'challenger'} --suite cases.parquet --out behaviour"


def _environment() -> Environment:
    """HTML is escaped by the engine; Markdown has no engine for it, so its template sends every text of the data through `plain`."""
    escape = select_autoescape(["html.j2"])
    loader = FileSystemLoader(FOLDER)
    environment = Environment(loader=loader, autoescape=escape, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)  # noqa: S701
    environment.filters |= {
        "words": words.words,
        "scope": words.scope,
        "share": words.share,
        "part": words.part,
        "whole": words.whole,
        "plain": plain,
        "capitalize_first": words.capital,
        "stands_out": stands_out,
    }
    environment.globals |= {
        "charts": charts,
        "bar": charts.interval_bar,
        "count": words.count,
        "attack_summary": attacks.summary,
        "attack_words": attacks.ATTACKS,
        "attacked_things": attacks.THINGS,
        "least_rows": MIN_CLASS,
        "member_names": members.NAMES,
        "source_names": members.SOURCES,
        "points": words.points,
        "appeal_gap": week_story.appeal_gap,
        "reviewers_compared": week_story.compared,
        "reviewers_alone": week_story.compared_alone,
        "deviation": week_story.deviation,
        "beats_luck": logos.beats_luck,
        "behave_command": behave_command,
        "logo_picture": logos.picture,
        "logo_summary": logos.summary,
        "estimate": estimate,
        "measured": words.measured,
        "evidence": words.evidence,
        "number": number,
        "place": sentences.place,
        "span": span,
        "weighted": comparison.WEIGHTED,
        "whom": comparison.whom,
        "contains": members.contains,
        "verdicts": VERDICT_WORDS,
        "behaviour_verdicts": BEHAVIOUR_WORDS,
        "statuses": STATUS_WORDS,
    }
    return environment


@dataclass(frozen=True)
class Result:
    """The long metrics table, the gate's decision and checks, everything the report shows, and what attacks cost where some were tried."""

    metrics: pd.DataFrame
    gate: dict[str, Any]
    report: dict[str, Any]
    attacks: pd.DataFrame | None = None


def write(out: Path, result: Result) -> None:
    """Write metrics.parquet, metrics.json (its headlines), report.json, report.html, report.md, first_screen.md and gate.json, and where
    attacks were tried robustness.parquet."""
    story = result.report
    page, mail, screen = html(story), markdown(story), first_screen(story)
    files.write_parquet(out / "metrics.parquet", result.metrics)
    (out / ROBUSTNESS).unlink(missing_ok=True)
    if result.attacks is not None:
        files.write_parquet(out / ROBUSTNESS, result.attacks)
    files.write_json(out / "metrics.json", headlines(result.metrics, story.get("logos", {}).get("figures", {}), result.attacks))
    files.write_json(out / "report.json", story)
    files.write_text(out / "report.html", page)
    files.write_text(out / "report.md", mail)
    files.write_text(out / FIRST_SCREEN, screen)
    files.write_json(out / "gate.json", result.gate)  # last: where it is, everything is
