"""The first screen of a weekly report in plain words: what the week's labels would change, drift, appeals, reviewers, missing evidence."""

from collections.abc import Iterator, Mapping
from typing import Any

from evaluation.report.sentences import LOOK, NOTE, STOP, Item, behaviour, item_of
from evaluation.report.words import capital, count, listed, share, spaced

Story = Mapping[str, Any]
ACTIONS = {"auto_remove": "automatic removal", "review": "review"}
MAX_FLAGGED = 5
WORDS = {  # (something is proposed, a check failed)
    (False, False): "No change",
    (False, True): "Checks failed",
    (True, False): "Ready for approval",
    (True, True): "Changes proposed, checks failed",
}


def extend(story: dict[str, Any], told: dict[str, Any]) -> dict[str, Any]:
    """Make an evaluation's report a weekly one.

    Args:
        story: of `content.build`, with the proposed thresholds as its certificates.
        told: what the week adds (see evaluation/weekly.py).

    Returns:
        the story with `weekly`, and with headline, what changed and what needs attention said of the week.
    """
    moved = [what for change in told["changes"] for what in _parts(change)]
    proposal = f"{count(len(moved), 'change')} proposed" if moved else "no change is proposed"
    word = WORDS[bool(moved), story["decision"] == "hold"]
    told["word"], told["num_changes"], told["next"] = word, len(moved), _next(len(moved), story["decision"] == "hold")
    items = [*story["attention"], *behaviour(told), *_drift(told), *_reviewers(told), *_appeals(told), *_recall(told), *_remarks(told)]
    return {
        **story,
        "headline": f"{word}: {proposal}; {story['headline'].partition(': ')[2]}",
        "changed": [*_models(told), *_thresholds(told)],
        "attention": sorted(items, key=lambda item: (STOP, LOOK, NOTE).index(item["level"])),
        "frozen": told["frozen"],
        "behaviour": told["behaviour"],
        "examples": told["examples"],
        "weekly": told,
    }


def _next(num_changes: int, failed: bool) -> str:
    """What happens now, and who has to do it."""
    if not num_changes:
        return "The thresholds stay as they are; nobody is asked." + (" The failed checks are named below." if failed else "")
    asked = "Nothing changes until a person approves it in Airflow (DAG promote)"
    return f"{asked}; since checks failed, their yes needs a reason." if failed else f"{asked}."


def _moves(change: Story, action: str) -> bool:
    old, new = change["now"][action], change["proposed"][action]
    if old is None and change["outcome"][action] == "insufficient":
        return False  # no post shows where review begins, and no evidence moves it
    return (old is None) != (new is None) or (old is not None and abs(old - new) > 1e-9)


def _models(told: Story) -> Iterator[str]:
    """A switch of models, within the week or since the week before."""
    if len(told["served"]) > 1:
        names = [f"{column['model_version']} ({column['decisions']:,} decisions)" for column in told["served"]]
        yield f"The model changed within the week: {', then '.join(names)}."
    earlier = [entry["model_version"] for entry in told["history"] if entry["week"] < told["week"]]
    if earlier and told["model_version"] not in earlier:
        yield f"{told['model_version']} serves for the first time; before it {earlier[-1]} did. Its drift is counted from here."


def _parts(change: Story) -> list[str]:
    """What is proposed for one category."""
    parts = [
        f"{ACTIONS[action]} {_at(change['now'][action])} → {_at(change['proposed'][action])} ({change['outcome'][action]})"
        for action in ACTIONS
        if _moves(change, action)
    ]
    if change["now"]["auto_remove"] is not None and change["proposed"]["auto_remove"] is not None:
        parts += [f"automatic removal off in {listed(change['stops_in'])}"] if change["stops_in"] else []
        parts += [f"automatic removal on in {listed(change['starts_in'])}"] if change["starts_in"] else []
    return parts


def _thresholds(told: Story) -> Iterator[str]:
    """Every proposed change with what it does to the week's posts; then what stays."""
    stays = []
    for change in told["changes"]:
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


def _drift(told: Story) -> Iterator[Item]:
    """Alarms: of precision one by one, of calibration one for each category."""
    alarms = [cell for cell in told["drift"]["cells"] if cell["alarm"]]
    for cell in (cell for cell in alarms if cell["kind"] == "precision"):
        counts = f"{cell['errors']} of {cell['removals']} audited removals wrong since {told['drift']['since']}"
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
            LOOK, f"{spaced(category)}: scores no longer mean what they say in {where} (since {told['drift']['since']} {example}).", "drift"
        )


def _reviewers(told: Story) -> Iterator[Item]:
    flagged = told["reviewers"]["flagged"]
    names = list(dict.fromkeys(row["reviewer_id"] for row in flagged))
    if names:
        which = listed(names[:MAX_FLAGGED])
        yield item_of(LOOK, f"{count(len(names), 'reviewer')} deviate from co-reviewers beyond chance: {which}.", "reviewers")


def _appeals(told: Story) -> Iterator[Item]:
    for row in told["appeals"]:
        if row["decided"]:
            yield item_of(NOTE, f"{spaced(row['category'])}: {_seen(row)}.", "appeals")


def appeal_gap(row: Story) -> str:
    """Why appeals and audit differ, for one category."""
    if row["audit"] is None:
        return f"{_seen(row)}."
    appealed = share(row["appealed"] / row["removals"])
    why = f"users appeal what they think wrong, the audit draws by chance, and {appealed} of removals were appealed"
    return f"{_seen(row)}. They need not agree: {why}."


def _seen(row: Story) -> str:
    """What appeals and audit say, side by side."""
    seen = f"{row['overturned']} of {count(row['decided'], 'decided appeal')} overturned the removal"
    if row["audit"] is None:
        return f"{seen}; no audited removal to set beside it"
    wrong = f"{share(row['audit']['ci_low'])} to {share(row['audit']['ci_high'])}: {row['wrong_low']:.0f} to {row['wrong_high']:.0f}"
    return f"{seen}; the audit puts {share(row['audit']['value'])} of all removals as wrong ({wrong} of {row['removals']:,})"


def _recall(told: Story) -> Iterator[Item]:
    """On how many weeks recall was judged, and what is missing to certify it."""
    for row in told["recall"]:
        weeks = count(len(row["weeks"]), "week")
        why = "" if row["window_reason"] is None else f" ({row['window_reason']})"
        said = f"certified at {row['threshold']:.3f}, at least {share(row['bound'])}" if row["outcome"] == "certified" else "not certified"
        missing = "" if row["outcome"] == "certified" or row["need_n"] is None else f"; {row['n']:,} labels below, {row['need_n']:,} needed"
        yield item_of(NOTE, f"{spaced(row['category'])}: recall over {weeks}{why} is {said}{missing}.", "missing")


def _remarks(told: Story) -> Iterator[Item]:
    if told["otherwise_decided"]:
        num = f"{told['otherwise_decided']:,} decisions differ from the thresholds taken as in force"
        yield item_of(NOTE, f"{num}: these changed within the week, or another rule decided.", "data")
    open_ = [row for row in told["missing"] if row["cost"] is not None]
    if open_:
        cheap = open_[0]
        where = spaced(cheap["category"]) + ("" if cheap["language"] == "all" else f", {cheap['language']}")
        least = f"the cheapest takes {count(cheap['cost'], 'further label')} ({where}: {cheap['purpose']})"
        yield item_of(NOTE, f"{count(len(told['missing']), 'question')} this week's labels leave open; {least}.", "missing")
