"""The first screen in plain words: the decision, and what needs a person's attention."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from upheld.evaluation.gate import where as scope_of_check
from upheld.evaluation.report import attacks, logos, members
from upheld.evaluation.report.words import (
    GAPS,
    agree,
    capital,
    count,
    evidence,
    listed,
    measured,
    name_of,
    part,
    percent,
    scope,
    spaced,
    words,
)

Story = Mapping[str, Any]
Item = dict[str, str]
STOP, LOOK, NOTE = "stop", "look", "note"
MAX_ITEMS = 8  # of one kind, before the rest is only counted
LONG_WEEKS = 52  # beyond that a forecast is no help: the budget or the model has to change
PLACES = {  # id of a part of the page -> its name in a link
    "checks": "Checks",
    "thresholds": "Thresholds",
    "languages": "Languages",
    "behaviour": "Behaviour tests",
    "attacks": "How easily it is fooled",
    "logos": "Logos",
    "data": "Data and method",
    "drift": "Drift",
    "reviewers": "Reviewers",
    "appeals": "Appeals",
    "missing": "Missing evidence",
}


def headline(gate: Story) -> str:
    """One sentence on the decision."""
    failed, passed, silent = (
        sum(check["status"] in statuses for check in gate["checks"]) for statuses in (("fail",), ("pass", "warn"), ("insufficient",))
    )
    unmade = f"; {silent:,} could not be made for lack of labels" if silent else ""
    if gate["decision"] == "promote":
        return f"Ready for approval: {count(passed, 'check')} passed, none failed{unmade}."
    return f"Hold: {count(failed, 'check')} failed, {passed:,} passed{unmade}."


def attention(story: Story) -> list[Item]:
    """What a person should look at, worst first; each item says where in the report it is shown."""
    of_logos = (item_of(level, text, "logos") for level, text in logos.attention(story.get("logos")))
    of_attacks = (item_of(STOP, text, "attacks") for text in attacks.attention(story))
    items = [*_unfair(story), *_failed(story), *of_attacks, *_unsettled(story), *behaviour(story), *of_logos, *_remarks(story)]
    return sorted(items, key=lambda item: (STOP, LOOK, NOTE).index(item["level"]))


def place(story: Story, where: str) -> str:
    """What a link to a part of the page says, for `where` of an item of attention."""
    if where in PLACES:
        return PLACES[where]
    return capital(name_of(story["categories"][int(where.removeprefix("category-")) - 1]))


def _failed(story: Story) -> Iterator[Item]:
    """Failed checks, one item for all that failed in one place for one reason; gaps and attacks have sentences of their own."""
    together: dict[tuple[str, str], list[str]] = {}
    for check in story["gate"]["checks"]:
        if check["status"] == "fail" and not check["name"].endswith(("_gap", "_ratio", "_lost")):
            together.setdefault((check["scope"], check["reason"]), []).append(words(check["name"]))
    for (where, reason), names in list(together.items())[:MAX_ITEMS]:
        yield item_of(STOP, f"{scope(where)}: {' and '.join(names)}: {reason.removesuffix('.')}.", "checks")
    if len(together) > MAX_ITEMS:
        yield item_of(STOP, f"{count(len(together) - MAX_ITEMS, 'further check')} failed.", "checks")


def _unfair(story: Story) -> Iterator[Item]:
    """Languages and groups that fare worse than the others; a gap and its ratio are one finding."""
    found = []
    failed = {(check["name"], check["scope"]) for check in story["gate"]["checks"] if check["status"] == "fail"}
    for category in story["categories"]:
        values = [(item, "", scope_of_check(category["name"], item["name"], "all", "all")) for item in category["languages"]]
        for column, items in category["groups"].items():
            values += [(item, f"{column} ", scope_of_check(category["name"], "all", column, item["name"])) for item in items]
        for item, kind, place in values:
            for rate, (event, gap, ratio) in GAPS.items():
                rows = [item["metrics"].get(name) or {} for name in (gap, ratio)]
                verdicts = {row.get("verdict") for row in rows}
                if verdicts & {"FAIL", "WARN"} and rows[0].get("value") is not None:
                    level = STOP if failed & {(gap, place), (ratio, place)} else LOOK
                    text = _gap(f"{scope(category['name'])}, {kind}{item['name']}", item, rate, event, rows)
                    found.append((level, rows[0]["value"], text, category["name"]))
    found.sort(key=lambda item: (item[0] != STOP, -item[1]))
    anchors = {category["name"]: f"category-{place}" for place, category in enumerate(story["categories"], 1)}
    yield from (item_of(level, text, anchors[name]) for level, _, text, name in found[:MAX_ITEMS])
    if len(found) > MAX_ITEMS:
        more = len(found) - MAX_ITEMS
        yield item_of(LOOK, f"{count(more, 'further comparison')} {agree(more, 'stands', 'stand')} out.", "languages")


def _gap(title: str, item: Story, rate: str, event: str, rows: list[Any]) -> str:
    gap, ratio = rows
    own = (item["metrics"].get(rate) or {}).get("value")
    span = f"gap {100 * gap['value']:.1f} points, interval {100 * gap['ci_low']:.1f} to {100 * gap['ci_high']:.1f}"
    if own is None:
        return f"{title}: {event} more often than elsewhere ({span})."
    times = f", {ratio['value']:.1f} times as often" if ratio.get("value") else ""
    sure = "beyond what is tolerated" if "FAIL" in (gap["verdict"], ratio.get("verdict")) else "more than chance explains"
    cases, elsewhere = f"{part(own)} of {count(gap['n'], 'labelled case')}", part(max(own - gap["value"], 0.0))
    return f"{title}: {event} in {cases}, against {elsewhere} elsewhere{times} ({span}); {sure}."


def _unsettled(story: Story) -> Iterator[Item]:
    """Where thresholds are missing and what they would take, one item for all categories in the same position; then the languages that
    cannot be compared with the others yet."""
    certified = [(category, category["certificates"]) for category in story["categories"] if category["certificates"]]
    for category, certificates in certified:
        if certificates["auto_remove"]["threshold"] is not None and category["languages_off"]:
            off = [name for name in category["languages_off"] if name in _present(category)]
            if off:
                yield item_of(
                    LOOK, f"{name_of(category)}: automatic removal is off in {listed(off)}; such posts go to review.", "thresholds"
                )
    none = [_need(category, of["auto_remove"]) for category, of in certified if of["auto_remove"]["threshold"] is None]
    if none:
        targets = listed(sorted({percent(certificates["auto_remove"]["target"]) for _, certificates in certified}))
        why = f"because we cannot yet show that {targets} of removals would be right"
        yield item_of(NOTE, f"Automatic removal stays off for these, {why}: {'; '.join(none)}.", "thresholds")
    thin = [_need(category, of["review"]) for category, of in certified if of["review"]["outcome"] == "insufficient"]
    if thin:
        yield item_of(NOTE, f"We do not yet know how many violations review misses: {'; '.join(thin)}.", "thresholds")
    apart = []
    for category in story["categories"]:
        there = _present(category)
        names = [
            language["name"]
            for language in category["languages"]
            if language["name"] in there
            and any((language["metrics"].get(gap) or {}).get("verdict") == "INSUFFICIENT" for gap in ("fpr_gap", "fnr_gap"))
        ]
        if names and len(there) > 1:
            apart.append(f"{name_of(category)} in {listed(names)}")
    if apart:
        yield item_of(NOTE, f"Too few labels to compare languages: {'; '.join(apart)}. The tables say how many it would take.", "languages")


def _need(category: Story, certificate: Story) -> str:
    """The category, and what is missing: labels, and where several weeks' labels count how long that takes at their pace."""
    need, have, weeks = certificate.get("need_n"), certificate.get("n") or 0, certificate.get("weeks") or []
    if not need:
        return name_of(category)
    takes = f"takes about {count(round(need), 'label')}"
    if weeks and 0 < have < need:
        more = math.ceil((need - have) * len(weeks) / have)
        pace = f"{count(more, 'more week')} at this pace" if more <= LONG_WEEKS else "more than a year at this pace"
        takes += f"; {count(have, 'label')} of {count(len(weeks), 'week')} so far, so {pace}"
    return f"{name_of(category)} ({takes})"


def behaviour(story: Story) -> Iterator[Item]:
    """Behaviour suites in which something fails beyond doubt; `behaviour` is of `behaviour.load`."""
    for suite in story["behaviour"]:
        if suite["num_failed"]:
            worst = suite["failed"][0]
            value = f"{worst['value']:+.3f}" if worst["metric"] == "score_shift" else f"{measured(worst)}, {evidence(worst)}"
            where = f"{worst['group_value']} in {spaced(worst['category'])}, {worst['language']}"
            text = f"Behaviour tests ({suite['suite']}): {suite['num_failed']} of {suite['num_slices']} functionalities and groups "
            text += agree(suite["num_failed"], "fails", "fail")
            yield item_of(LOOK, f"{text}, first of all {where} ({words(worst['metric'])}: {value}).", "behaviour")


def _present(category: Story) -> set[str]:
    """Languages in which the category has rows."""
    return {language["name"] for language in category["languages"] if (language["metrics"]["rows"] or {}).get("value")}


def _remarks(story: Story) -> Iterator[Item]:
    for hold in story["held"]:
        by = f"by {hold['who']} on {hold['at'][:10]} ({hold['reason']})"
        yield item_of(LOOK, f"Held {by}: no verdict of reviewer {hold['reviewer_id']} from {hold['since'][:10]} on counts here.", "data")
    if story["fusion"]["incumbent"]:
        yield item_of(LOOK, members.needs(story["fusion"]["incumbent"]), "data")
    if story["synthetic"]:
        yield item_of(LOOK, "The posts are synthetic: these figures say nothing about real users.", "data")
    if not story["calibrated"]:
        yield item_of(NOTE, "Scores are taken as probabilities as they are; no calibration was given.", "data")
    together: dict[str, list[str]] = {}
    for category in story["categories"]:
        together.setdefault(category["note"], []).append(name_of(category))
    yield from (item_of(NOTE, f"{listed(names)}: rates are taken {note}.", "thresholds") for note, names in together.items() if note)
    left = story["data"]["splits_left_out"]
    if left:
        rows = listed([f"{count(num, 'row')} of {name}" for name, num in left.items()])
        yield item_of(NOTE, f"Kept apart for other steps, and not used here: {rows}.", "data")


def item_of(level: str, text: str, where: str) -> Item:
    """One line of what needs attention; `where` is the id of the part of the page that shows it."""
    return {"level": level, "text": capital(text), "where": where}
