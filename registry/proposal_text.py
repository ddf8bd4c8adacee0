"""Markdown of a proposal, part by part. Every text that comes from data goes through `plain`."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from evaluation.report.render import number, plain, span
from evaluation.report.words import capital, scope, words
from feature_store.freeze_log import Event

MAX_CHECKS = 12  # a person reads so many; the report has them all
ACTIONS = {"auto_remove": ("remove automatically", "precision"), "review": ("send to review", "recall")}


def gate(decision: Mapping[str, Any]) -> Iterator[str]:
    """The gate's decision, how many checks came out how, and those that failed or warn."""
    checks = decision["checks"]
    counts = Counter(check["status"] for check in checks)
    told = ", ".join(f"{count} {words(status)}" for status, count in sorted(counts.items())) or "no check"
    yield f"## Gate: {plain(decision['decision'])}\n\n{capital(told)}.\n"
    bad = [check for check in checks if check["status"] in ("fail", "warn")]
    for check in sorted(bad, key=lambda check: str(check["status"]))[:MAX_CHECKS]:
        name = f"{capital(scope(check['scope']))}, {words(check['name'])}"
        yield f"- **{check['status']}** {plain(name)}: {plain(check['reason'])}"
    if len(bad) > MAX_CHECKS:
        yield f"- and {len(bad) - MAX_CHECKS} more"
    yield ""


def comparison(metrics: pd.DataFrame, compared: int | None, current: int | None) -> Iterator[str]:
    """Paired changes on the same posts, pooled over languages.

    Args:
        metrics: metrics.parquet of the proposed model.
        compared: version that it was compared with; None without one.
        current: version in production; None without one.
    """
    yield "## Against the champion, on the same posts\n"
    if current is None:
        yield "Nothing is in production: there is nothing to compare with.\n"
        return
    if compared != current:
        with_what = "nothing" if compared is None else f"model {compared}"
        yield f"**It was compared with {with_what}, but model {current} is in production.** A new retrain compares it afresh.\n"
    rows = metrics[metrics.metric.str.endswith("_change") & (metrics.group_column == "all") & (metrics.language == "all")]
    if rows.empty:
        yield "No comparison: no post of the test window was scored by both.\n"
        return
    yield "| category | what | change | interval |\n|---|---|---|---|"
    for record in rows.astype(object).where(rows.notna(), None).to_dict("records"):
        row = {str(key): value for key, value in record.items()}
        name = str(row["metric"])
        value = number(name, row["value"]) if row["value"] is not None else f"undefined: {plain(row['reason'])}"
        yield f"| {plain(row['category'])} | {words(name)} | {value} | {span(name, row)} |"
    yield ""


def thresholds(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> Iterator[str]:
    """Old and new threshold of every category and action, with the new one's certificate.

    Args:
        old: thresholds.json in force; None where there is none.
        new: thresholds.json proposed.
    """
    yield "## Thresholds, old → new\n"
    yield "| category | action | old | new | certificate |\n|---|---|---|---|---|"
    before = (old or {}).get("categories", {})
    for category in sorted(before.keys() | new["categories"].keys()):
        for action, (name, aim) in ACTIONS.items():
            was, becomes = (side.get(category, {}).get(action) for side in (before, new["categories"]))
            yield f"| {plain(category)} | {name} | {_value(was)} | {_value(becomes)} | {_certificate(becomes, aim)} |"
    yield ""


def first_screen(report: str) -> Iterator[str]:
    """The report's first screen, its headings below ours."""
    yield "## The report\n"
    yield "\n".join(f"##{line}" if line.startswith("#") else line for line in report.strip().splitlines()) + "\n"


def frozen(events: Mapping[str, Event]) -> Iterator[str]:
    """Categories in which a person has stopped automatic removal, as of now; an approval does not lift that."""
    for category, event in events.items():
        since = f"since {event.at:%Y-%m-%d %H:%M} by {plain(event.who)} ({plain(event.reason)})"
        yield f"**Frozen:** {plain(category)} is not removed automatically {since}; approving this does not lift it.\n"


def behaviour(model: int, suites: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What the behaviour tests of a model say, or that nobody ran them.

    Args:
        model: its number.
        suites: of `behaviour_files.load`.
    """
    yield "## Behaviour tests\n"
    if not suites:
        yield f"Not run for this model: `upheld behave {model} --suite cases.parquet --out behaviour`\n"
    for suite in suites:
        yield f"- {plain(suite['suite'])}: {suite['num_failed']} of {suite['num_slices']} functionalities and groups fail"
        for row in (row for row in suite["languages"] if row["pass_rate"]):
            rate = row["pass_rate"]
            passed = f"{number('pass_rate', rate['value'])} of {rate['n']:.0f} cases decided as expected ({span('pass_rate', rate)})"
            yield f"  - {plain(row['category'])}, {plain(row['language'])}: {passed}, {rate['verdict']}"
    yield ""


def where(page: str | None, path: Path) -> Iterator[str]:
    """Where the whole report is, for as long as the registry is."""
    yield f"[Open the whole report]({page})\n" if page else ""
    yield f"Whole report: `{str(path).replace('`', '')}`"


def _value(bound: Mapping[str, Any] | None) -> str:
    if bound is None:
        return "—"
    return "none" if bound["threshold"] is None else f"{bound['threshold']:.4f}"


def _certificate(bound: Mapping[str, Any] | None, aim: str) -> str:
    """Outcome, bound and target, the labels it rests on, and what more it takes."""
    if bound is None:
        return "no longer a category"
    parts = [plain(bound.get("outcome", "no certificate"))]
    if bound.get("bound") is not None:
        parts.append(f"{aim} at least {bound['bound']:.3f}")
    if bound.get("target") is not None:
        parts.append(f"target {bound['target']:g}")
    if bound.get("delta") is not None:
        parts.append(f"wrong with chance {bound['delta']:g} at most")
    if bound.get("n") is not None:
        worth = f" worth {bound['n_eff']:.0f}" if bound.get("n_eff") is not None else ""
        parts.append(f"{bound['n']} labels{worth}")
    if bound.get("need_n"):
        parts.append(f"needs {bound['need_n']:.0f}")
    return "; ".join(parts)
