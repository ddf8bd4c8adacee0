"""Markdown of a proposal, part by part. Every text that comes from data goes through `plain`."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from upheld.evaluation.report.comparison import WEIGHTED, differs, table, whom
from upheld.evaluation.report.render import number, plain, span
from upheld.evaluation.report.words import capital, count, scope, share, spaced, words
from upheld.feature_store.contracts.workspace import Event, Hold
from upheld.feature_store.decisions.thresholds import Certificate, Thresholds
from upheld.registry.approvals.log import ANSWERS, Approval, Pair
from upheld.registry.production.volumes import Volumes

MAX_CHECKS = 12  # a person reads so many; the report has them all
ACTIONS = {"auto_remove": "remove automatically", "review": "send to review"}
MAX_ANSWERS = 5
RATES = ("precision_change", "recall_change", "fpr_change")  # at the thresholds of a model that can be compared at them


def unexplained(now: Pair, approved: Pair) -> Iterator[str]:
    """Warn where alias champion does not name what was approved."""
    if now != approved:
        yield f"**Attention:** alias champion names {now}, which nobody approved: the last approval on record is of {approved}.\n"


def volumes(found: Volumes) -> Iterator[str]:
    """Posts removed, queued and passed, before → after."""
    yield "## Posts, before → after\n"
    categories = sorted(found.before.keys() | found.after.keys())
    if categories:
        yield f"Counted on {plain(found.where)}, under the thresholds in force and under the proposed ones.\n"
        yield "| category | removed automatically | sent to review | passed |\n|---|---|---|---|"
    for category in categories:
        sides = [side.get(category) for side in (found.before, found.after)]
        cells = [" → ".join("?" if side is None else f"{side[action]:,}" for side in sides) for action in ("auto_remove", "review", "none")]
        yield f"| {plain(spaced(category))} | {' | '.join(cells)} |"
    yield "".join(f"\n{plain(gap)}\n" for gap in found.gaps)


def gate(decision: Mapping[str, Any], metrics: pd.DataFrame | None) -> Iterator[str]:
    """The gate's decision, how many checks came out how, and those that failed, could not be shown, or warn.

    Args:
        decision: content of gate.json.
        metrics: metrics.parquet of the same evaluation; None where it is not kept. It tells evidence against from missing evidence.
    """
    checks = [{**check, "outcome": "not shown" if _not_shown(check, metrics) else check["status"]} for check in decision["checks"]]
    counts = Counter(check["outcome"] for check in checks)
    summary = ", ".join(f"{count} {words(status)}" for status, count in sorted(counts.items())) or "no check"
    yield f"## Gate: {plain(decision['decision'])}\n\n{capital(summary)}.\n"
    bad = [check for check in checks if check["outcome"] in ("fail", "not shown", "warn")]
    for check in sorted(bad, key=lambda check: str(check["outcome"]))[:MAX_CHECKS]:
        name = f"{capital(scope(check['scope']))}, {words(check['name'])}"
        yield f"- **{capital(check['outcome'])}:** {plain(name)}: {plain(check['reason'])}"
    if len(bad) > MAX_CHECKS:
        yield f"- and {len(bad) - MAX_CHECKS} more"
    yield ""


def _not_shown(check: Mapping[str, Any], metrics: pd.DataFrame | None) -> bool:
    """Whether a failed check failed for want of evidence: no value, or an interval on both sides of the bound."""
    if check["status"] != "fail" or check["value"] is None or metrics is None:
        return check["status"] == "fail" and check["value"] is None
    category, _, language = check["scope"].partition("/")
    wanted = {"metric": check["name"], "category": category, "language": language, "group_column": "all"}
    rows = metrics[(metrics[list(wanted)] == pd.Series(wanted)).all(axis=1)]
    return bool(check["bound"] is not None and ((rows.ci_low < check["bound"]) & (check["bound"] < rows.ci_high)).any())


def comparison(metrics: pd.DataFrame, compared: Mapping[str, Any], recorded: int | None, current: int | None) -> Iterator[str]:
    """Paired changes on the same posts: of each category, and of languages where a difference is shown.

    Args:
        metrics: metrics.parquet of the proposed model.
        compared: kind and names of what it was compared with, as in gate.json.
        recorded: version that it was compared with; None where that was no version.
        current: version in production; None without one.
    """
    if compared["kind"] == "nothing" and current is None:
        yield "## Against another model, on the same posts\n"
        yield "There is nothing to compare with: nothing is in production, and no labelled post has the score of a model that served.\n"
        return
    other = "nothing" if compared["kind"] == "nothing" else plain(whom(compared))
    yield f"## Against {other}, on the same posts\n"
    if recorded != current:
        with_what = other if recorded is None else f"model {recorded}"
        now = "nothing" if current is None else f"model {current}"
        yield f"**It was compared with {with_what}, but {now} is in production.** A new retrain compares it afresh.\n"
    shown = table(metrics)
    if not shown:
        yield "No comparison: no labelled post of the test window was scored by both.\n"
        return
    yield f"{WEIGHTED} Of languages, those are listed where a difference is shown.\n"
    yield "| category | language | this model | the other | difference in ROC-AUC | labels |\n|---|---|---|---|---|---|"
    for row in (row for row in shown if row["language"] == "all" or differs(row)):
        areas = " | ".join(number("roc_auc", row[name]) for name in ("challenger", "comparator"))
        cell = f"{plain(row['category'])} | {plain(row['language'])}"
        yield f"| {cell} | {areas} | {_difference('roc_auc_change', row)} | {row['n']:,} |"
    yield ""
    rates = metrics[metrics.metric.isin(RATES) & (metrics.group_column == "all") & (metrics.language == "all")].astype(object)
    for rate in rates.where(rates.notna(), None).to_dict("records"):
        yield f"- {capital(plain(spaced(rate['category'])))}: {words(rate['metric'])}: {_difference(rate['metric'], rate)}"
    yield ""


def _difference(name: str, row: Mapping[Any, Any]) -> str:
    """A difference with its interval, or why it is undefined."""
    return f"undefined: {plain(row['reason'])}" if row["value"] is None else f"{number(name, row['value'])} ({span(name, row)})"


def thresholds(old: Thresholds | None, new: Thresholds) -> Iterator[str]:
    """Old and new threshold of every category and action, with the new one's certificate.

    Args:
        old: those in force; None where there are none.
        new: those proposed.
    """
    yield "## Thresholds, old → new\n"
    yield "| category | action | old | new | certificate |\n|---|---|---|---|---|"
    before = old.categories if old else {}
    for category in sorted(before.keys() | new.categories.keys()):
        for action, name in ACTIONS.items():
            was, becomes = (getattr(side.get(category), action, None) for side in (before, new.categories))
            yield f"| {plain(spaced(category))} | {name} | {_value(was)} | {_value(becomes)} | {_certificate(action, becomes)} |"
    yield ""


def frozen(events: Mapping[str, Event]) -> Iterator[str]:
    """Categories in which a person has stopped automatic removal, as of now; an approval does not lift that."""
    for category, event in events.items():
        since = f"since {event.at:%Y-%m-%d %H:%M} by {plain(event.who)} ({plain(event.reason)})"
        yield f"**Frozen:** {plain(category)} is not removed automatically {since}; approving this does not lift it.\n"


def held(holds: Mapping[str, Hold]) -> Iterator[str]:
    """Reviewers whose verdicts a person has taken out, as of now; the report says whether they were when it was written."""
    for reviewer, hold in holds.items():
        by = f"by {plain(hold.who)} on {hold.at:%Y-%m-%d} ({plain(hold.reason)})"
        yield f"**Held:** verdicts of reviewer {plain(reviewer)} from {hold.since:%Y-%m-%d} on count nowhere since the next run, {by}.\n"


def behaviour(model: int, suites: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What the behaviour tests of a model (suites of `behaviour.load`) say, or that nobody ran them."""
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


def answers(log: Sequence[Approval]) -> Iterator[str]:
    """What was answered to the last questions, newest first."""
    yield "## The last answers\n"
    if not log:
        yield "Nobody has been asked before.\n"
    for item in list(reversed(log))[:MAX_ANSWERS]:
        why = "; ".join(text for text in (item.despite_hold, item.note) if text)
        answer = f"{item.at:%Y-%m-%d %H:%M} UTC: {ANSWERS[item.action]}, {item.after}" + (f", by {item.approver}" if item.approver else "")
        yield f"- {plain(answer + (f': {why}' if why else ''))}"
    yield ""


def where(page: str | None, file: Path | None, run_id: str) -> str:
    """Where the whole report is, for as long as the registry is: a page, else a file, else the run that holds it."""
    if page:
        return f"[Open the whole report]({page})"
    place = f"`{str(file).replace('`', '')}`" if file else f"artifact `evaluation/report.html` of MLflow run `{run_id}`"
    return f"Whole report: {place}"


def _value(bound: Certificate | None) -> str:
    if bound is None:
        return "—"
    return "none" if bound.threshold is None else f"{bound.threshold:.4f}"


def _certificate(action: str, bound: Certificate | None) -> str:
    """What the labels show of a threshold, in a sentence; where they do not, how many it would take."""
    if bound is None:
        return "No longer a category."
    outcome = capital(plain(bound.outcome or "no certificate"))
    begins = "Stays off." if action == "auto_remove" and bound.threshold is None else f"{outcome}."
    need = f"about {float(f'{bound.need_n:.3g}'):,.0f}" if bound.need_n else None  # three digits that count
    if bound.n is None or bound.target is None:
        return begins + (f" {capital(need)} labels would be needed." if need else "")
    labels, wanted = count(bound.n, "label"), f"{100 * bound.target:g} %"
    if bound.proven and bound.threshold is not None and bound.bound is not None:
        worth = f", worth {bound.n_eff:,.0f} drawn at random," if bound.n_eff is not None else ""
        sure = f", wrong with a chance of at most {100 * bound.delta:g} %" if bound.delta is not None else ""
        shown = _claim(action, f"at least {share(bound.bound)}")
        return f"{begins} {labels}{worth} show {shown} (wanted: {wanted}){sure}."
    if bound.need_n and bound.need_n > bound.n:
        return f"{begins} {labels} {'is' if bound.n == 1 else 'are'} too few to show {_claim(action, wanted)}; {need} would be needed."
    return f"{begins} {labels} do not show {_claim(action, wanted)}" + (": too many of them speak against it." if need else ".")


def _claim(action: str, share_of: str) -> str:
    return f"{share_of} precision" if action == "auto_remove" else f"that review finds {share_of} of violations"
