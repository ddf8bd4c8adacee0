"""The first screen of a weekly report in plain words: what the week's labels would change, drift, appeals, reviewers, missing evidence."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from upheld.evaluation.report.sentences import LOOK, NOTE, STOP, Item, behaviour, item_of
from upheld.evaluation.report.words import TOO_FEW, agree, capital, count, evidence, listed, measured, part, percent, share, spaced

Story = Mapping[str, Any]
ACTIONS = {"auto_remove": "automatic removal", "review": "review"}
NOT_COMPARED = {  # why (one reviewer, several)
    "alone": ("judged no item that has a second verdict or a known truth", "judged no item that has a second verdict or a known truth"),
    "tied": ("shares only items on which colleagues are evenly split", "share only items on which colleagues are evenly split"),
    "no_colleague": ("has no colleague with comparable items", "have no colleague with comparable items"),
}
FAILED = ", checks failed"
Asked = Literal["yes", "no", "unknown"]  # whether a person is asked about what the report proposes
WORDS: dict[Asked, str] = {"yes": "Ready for approval", "no": "For information", "unknown": "Changes proposed"}


def extend(story: dict[str, Any], week: dict[str, Any]) -> dict[str, Any]:
    """Make an evaluation's report a weekly one.

    Args:
        story: of `content.build`, with the proposed thresholds as its certificates.
        week: what the week adds to an evaluation's report (see evaluation/weekly/report.py).

    Returns:
        the story with `weekly`, and with headline, what changed and what needs attention said of the week.
    """
    moved = [what for change in week["changes"] for what in _parts(change)]
    proposal = f"{count(len(moved), 'change')} proposed" if moved else "No change is proposed"
    week["num_changes"] = len(moved)
    week["word"], week["asked"], week["next"] = _banner(week, failed=story["decision"] == "hold")
    items = [*story["attention"], *behaviour(week), *_drift(week), *_deviating(week), *_reviewers(week)]
    items += [item_of(NOTE, f"{spaced(row['category'])}: {_seen(row)}.", "appeals") for row in week["appeals"] if row["decided"]]
    items += [*_recall(week), *_remarks(week)]
    return {
        **story,
        "headline": f"{week['word']}: {proposal}. {story['headline'].partition(': ')[2]}",
        "changed": list(_changed(week)),
        "attention": sorted(items, key=lambda item: (STOP, LOOK, NOTE).index(item["level"])),
        "frozen": week["frozen"],
        "behaviour": week["behaviour"],
        "examples": week["examples"],
        "weekly": week,
    }


def _banner(week: Story, *, failed: bool) -> tuple[str, Asked, str]:
    """The report's first word, whether a person is asked, and what happens now."""
    if not week["num_changes"]:
        nobody = "The thresholds stay as they are; nobody is asked."
        return ("Checks failed", "no", f"{nobody} The failed checks are named below.") if failed else ("No change", "no", nobody)
    production, model = week["production"], week["model_version"]
    if not production["known"]:
        asked: Asked = "unknown"
        outlook = f"This report does not know which model is in production. A person is asked only if it is {model}."
    elif production["model_version"] != model:
        asked, serves = "no", production["model_version"]
        why = f"{model} is not the model in production ({serves} is)" if serves else "no model is in production in the registry"
        outlook = f"Nobody will be asked: {why}. These changes are for information."
    else:
        asked, outlook = "yes", "Nothing changes until a person approves it in Airflow (DAG promote)."
        outlook += " Some checks failed, so their yes needs a reason." if failed else ""
    word = "Changes proposed" if failed and asked == "yes" else WORDS[asked]
    return word + (FAILED if failed else ""), asked, outlook


def _parts(change: Story) -> list[str]:
    """What is proposed for one category."""
    parts = []
    for action, name in ACTIONS.items():
        old, new, outcome = (change[key][action] for key in ("now", "proposed", "outcome"))
        if old is None and outcome == "insufficient":
            continue  # no post shows where review begins, and no evidence moves it
        if (old is None) != (new is None) or (old is not None and abs(old - new) > 1e-9):
            parts.append(f"{name} {_at(old)} → {_at(new)} ({outcome})")
    if change["now"]["auto_remove"] is not None and change["proposed"]["auto_remove"] is not None:
        parts += [f"automatic removal off in {listed(change['stops_in'])}"] if change["stops_in"] else []
        parts += [f"automatic removal on in {listed(change['starts_in'])}"] if change["starts_in"] else []
    return parts


def _changed(week: Story) -> Iterator[str]:
    """A switch of models, within the week or since the week before; every proposed change with its effect on the week; then what stays."""
    if len(week["served"]) > 1:
        names = [f"{column['model_version']} ({column['decisions']:,} decisions)" for column in week["served"]]
        yield f"The model changed within the week: {', then '.join(names)}."
    earlier = [entry["model_version"] for entry in week["history"] if entry["week"] < week["week"]]
    if earlier and week["model_version"] not in earlier:
        yield f"{week['model_version']} serves for the first time; before it {earlier[-1]} did. Its drift is counted from here."
    stays = []
    for change in week["changes"]:
        parts = _parts(change)
        if not parts:
            stays.append(spaced(change["category"]))
            continue
        before, after = change["volume_now"], change["volume_proposed"]
        effect = (
            f"removed {before['auto_remove']:,} → {after['auto_remove']:,}, queue {before['review']:,} → {after['review']:,} posts a week"
        )
        yield capital(f"{spaced(change['category'])}: proposed {' and '.join(parts)}; {effect}.")
    if stays:
        yield capital(f"{listed(stays)}: no change.")


def _at(threshold: float | None) -> str:
    return "none" if threshold is None else f"{threshold:.3f}"


def _drift(week: Story) -> Iterator[Item]:
    """Alarms: of precision one by one, of calibration one for each category."""
    alarms = [cell for cell in week["drift"]["cells"] if cell["alarm"]]
    for cell in (cell for cell in alarms if cell["kind"] == "precision"):
        counts = f"{cell['errors']} of {cell['removals']} audited removals wrong since {week['drift']['since']}"
        yield item_of(
            LOOK, f"{spaced(cell['category'])}, {cell['language']}: removals are wrong more often than tolerated ({counts}).", "drift"
        )
    tilted: dict[str, list[Story]] = {}
    for cell in (cell for cell in alarms if cell["kind"] == "calibration"):
        tilted.setdefault(cell["category"], []).append(cell)
    for category, cells in tilted.items():
        where = listed([cell["language"] for cell in cells])
        most = max(cells, key=lambda cell: cell["labels"])
        example = (
            f"in {most['language']} {most['violations']} violations among {most['labels']} labels, where scores expected {most['expected']}"
        )
        yield item_of(
            LOOK, f"{spaced(category)}: scores no longer mean what they say in {where} (since {week['drift']['since']} {example}).", "drift"
        )


def _deviating(week: Story) -> Iterator[Item]:
    """Reviewers whose verdicts differ from what colleagues say of like items, and how many figures rest on them."""
    found = week["reviewers"]["deviating"]
    for row in found["accused"]:
        yield item_of(LOOK, f"{deviation(row)}. Read the items before you judge.", "reviewers")
    num = found["figures"]["num"]
    if num:
        whom = "this reviewer" if len(found["accused"]) == 1 else f"these {len(found['accused'])} reviewers"
        lost = found["figures"]["num_lost"]
        checks = f", and {count(lost, 'check')} would end otherwise" if lost else ""
        yield item_of(LOOK, f"Without {whom} {count(num, 'figure')} of this report would differ{checks}.", "reviewers")


def deviation(row: Story) -> str:
    """What one reviewer of `people.describe_deviation` does otherwise than colleagues."""
    span = f"in the last {count(row['weeks'], 'week')}" if row["weeks"] > 1 else "this week"
    who = f"Reviewer {row['reviewer_id']}"
    what = f"{who} {row['kind']} than colleagues {span}"
    if row["kind"].startswith("follows"):
        what = f"{who} agrees less than colleagues with what others say of like items, {span}"
    confirmed = f"{row['num_confirmed']:,} of {count(row['num'], 'verdict')} confirm"
    return f"{what}: {confirmed}; on like items all together would confirm {row['expected']:.0f}"


def compared_alone(deviating: Story) -> list[str]:
    """Whom `people.describe_deviation` could compare, and why the others could not be."""
    num, total, few = deviating["num_compared"], deviating["num_reviewers"], deviating["too_few"]
    if not total:
        return []
    first, last = deviating["weeks"]
    lines = [
        f"Most items are seen by one person, so reviewers are also compared on like items: same category, language and zone, like scores. "
        f"{num:,} of {count(total, 'reviewer')} could be compared so ({first} to {last})."
    ]
    if few:
        lines.append(f"In {listed(few)} fewer than three reviewers have verdicts enough: where two disagree, nothing tells which is wrong.")
    if deviating["routed"]:
        names = listed([f"{row['reviewer_id']} ({'higher' if row['rank'] > 0.5 else 'lower'} scores)" for row in deviating["routed"]])
        lines.append(f"Items are not dealt out alike: {names}. What else sets such items apart cannot be seen here.")
    if num and not deviating["accused"]:
        lines.append("None of those differs more than honest people do.")
    return lines


def _reviewers(week: Story) -> Iterator[Item]:
    of_each: dict[str, list[Story]] = {}
    for row in week["reviewers"]["flagged"]:
        of_each.setdefault(row["reviewer_id"], []).append(row)
    if not of_each:
        return
    cases = []
    for name, rows in of_each.items():
        disagreed, num, expected = (sum(row[key] for row in rows) for key in ("num_disagreements", "num", "expected"))
        cases.append(f"{name} ({disagreed} of {count(num, 'item')}; {expected:.1f} expected)")
    who = "One reviewer disagrees" if len(cases) == 1 else f"{len(cases)} reviewers disagree"
    yield item_of(LOOK, f"{who} with colleagues on the same items more than chance explains: {listed(cases)}.", "reviewers")


def compared(reviewers: Story) -> list[str]:
    """How many reviewers of `people.describe_reviewers` could be compared, why the others could not, and whether one disagrees."""
    num, total, left_out = reviewers["num_compared"], reviewers["num_reviewers"], reviewers["not_compared"]
    if not total:
        return ["No verdict of this week counts, so nothing can be said of any reviewer."]
    lines = [f"{count(reviewers['num_verdicts'], 'verdict')} of {count(total, 'reviewer')}."]
    if num:
        least, most = reviewers["shared"]
        items = count(most, "item") if least == most else f"{least:,} to {count(most, 'item')}"
        lines.append(f"{num:,} of {count(total, 'reviewer')} could be compared with colleagues, on {items} each.")
    else:
        lines.append(f"0 of {count(total, 'reviewer')} could be compared with colleagues, so nothing can be said of any of them.")
    if num < total:
        why = [f"{left_out[key]:,} {text[left_out[key] != 1]}" for key, text in NOT_COMPARED.items() if left_out[key]]
        lines.append(f"Why the other {total - num:,} could not: {'; '.join(why)}.")
    if num and not reviewers["flagged"]:
        who = "The one who was compared does not disagree" if num == 1 else f"None of the {num:,} who were compared disagrees"
        lines.append(f"{who} with colleagues on the same items more than chance explains.")
    return lines


def appeal_gap(row: Story) -> str:
    """Why appeals and audit differ, for one category."""
    if row["audit"] is None:
        return f"{_seen(row)}."
    appealed = f"{part(row['appealed'] / row['removals'])} of {count(row['removals'], 'removal')}"
    why = f"users appeal what they think wrong, the audit draws by chance, and {appealed} {agree(row['removals'], 'was', 'were')} appealed"
    return f"{_seen(row)}. They need not agree: {why}."


def _seen(row: Story) -> str:
    """What appeals and audit say, side by side."""
    seen = f"{row['overturned']} of {count(row['decided'], 'decided appeal')} overturned the removal"
    if row["audit"] is None:
        return f"{seen}; no audited removal to set beside it"
    if measured(row["audit"]) == TOO_FEW:
        return f"{seen}; the audit has too few labels to say how many removals were wrong ({evidence(row['audit'])} was)"
    wrong = f"{evidence(row['audit'])}; that is {row['wrong_low']:.0f} to {row['wrong_high']:.0f} of {row['removals']:,}"
    return f"{seen}; by the audit, {measured(row['audit'])} of all removals were wrong ({wrong})"


def _recall(week: Story) -> Iterator[Item]:
    """On how many weeks recall was judged, and what is missing to certify it."""
    for row in week["recall"]:
        category, target = spaced(row["category"]), percent(row["target"])
        weeks = f"Counted: {count(len(row['weeks']), 'week')}" + (f"; {row['window_reason']}." if row["window_reason"] else ".")
        if row["outcome"] == "certified":
            what = (
                f"from {row['threshold']:.3f} on, review and removal find at least {share(row['bound'])} of violations; that is certified."
            )
        else:
            labels = count(row["n"], "label")
            if abs(row["need_threshold"] - row["threshold"]) > 1e-9:
                missing = f"The {labels} so far {agree(row['n'], 'contains', 'contain')} too many misses for the {target} target."
            else:
                there = agree(row["n"], "there is", "there are")
                missing = f"So far {there} {labels}; the {target} target needs about {row['need_n']:,}."
            what = f"we cannot yet say how much review misses. {missing}"
        yield item_of(NOTE, f"{category}: {what} {weeks}", "missing")


def _remarks(week: Story) -> Iterator[Item]:
    if week["otherwise_decided"]:
        num = week["otherwise_decided"]
        differ = f"{count(num, 'decision')} {agree(num, 'differs', 'differ')} from the thresholds taken as in force"
        yield item_of(NOTE, f"{differ}: the thresholds changed within the week, or another rule decided.", "data")
    open_ = [row for row in week["missing"] if row["cost"] is not None]
    if open_:
        cheap, num = open_[0], len(week["missing"])
        where = spaced(cheap["category"]) + ("" if cheap["language"] == "all" else f", {cheap['language']}")
        still = f"{count(num, 'question')} {agree(num, 'is', 'are')} still open."
        quickest = f"{'The quickest to settle' if num > 1 else 'It'} needs {count(cheap['cost'], 'more label')}"
        yield item_of(NOTE, f"{still} {quickest}: {where}, {cheap['purpose']}.", "missing")
