"""The report's charts, drawn from report.json's numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from upheld.evaluation.report import axes, svg
from upheld.evaluation.report.words import evidence, measured, whole

Story = Mapping[str, Any]
MAX_WEEKS = 27


def reliability(category: Story) -> Markup:
    """Violations found among reviewed posts against the probability given, with its band; the dashed line is perfect agreement.

    In every chart none or all of a handful of labels is no point at 0 % or 100 %, but its interval alone.
    """
    curve = category["charts"]["reliability"]
    plot = svg.Plot(
        f"Reliability of {category['name']}", axes.probability_axis("probability given"), axes.probability_axis("violations found")
    )
    plot.guide((0.0005, 0.0005), (0.9995, 0.9995))
    plot.band(curve["prob"], curve["ci_low"], curve["ci_high"])
    known = [(p, r) for p, r in zip(curve["prob"], curve["rate"], strict=True) if not whole(r)]
    plot.line([p for p, _ in known], [r for _, r in known])
    tips = [
        f"given {p:.3f}, found {r:.3f} ({low:.3f} to {high:.3f}), {n:.0f} labelled rows"
        for p, r, low, high, n in zip(*(curve[name] for name in ("prob", "rate", "ci_low", "ci_high", "num")), strict=True)
    ]
    for at, low, high, tip in zip(zip(curve["prob"], curve["rate"], strict=True), curve["ci_low"], curve["ci_high"], tips, strict=True):
        if whole(at[1]):
            plot.bar(at[0], low, high, svg.BLUE, tip)
        else:
            plot.dot(at, svg.BLUE, tip)
    return plot.svg()


def precision_recall(category: Story) -> Markup:
    """Precision against recall over all thresholds, with the thresholds in force and their intervals."""
    curve, metrics = category["charts"]["precision_recall"], category["metrics"]
    plot = svg.Plot(f"Precision and recall of {category['name']}", axes.unit_axis("recall"), axes.unit_axis("precision"))
    plot.line(curve["recall"], curve["precision"])
    flagged = "review threshold" if not category["note"] else "default score"
    for suffix, colour, name in (("", svg.GREEN, flagged), ("_auto_remove", svg.ORANGE, "automatic removal")):
        across, up = metrics.get(f"recall{suffix}"), metrics.get(f"precision{suffix}")
        if across and up and across["value"] is not None and up["value"] is not None:
            low, high = ((across[end], up[end]) for end in ("ci_low", "ci_high"))
            known = not (whole(across["value"]) or whole(up["value"]))
            plot.cross((across["value"], up["value"]), low, high, colour, name, square=suffix != "", marked=known)
    return plot.svg()


def histogram(category: Story) -> Markup:
    """How the scores of violations and of the rest are spread, each adding up to 100 %, and where the thresholds lie."""
    chart = category["charts"]["histogram"]
    top = max(*chart["violation"], *chart["other"], 0.01)
    ticks = tuple(top * part / 4 for part in range(5))
    axis = axes.Axis("share of the label's posts", 0.0, top, ticks)
    plot = svg.Plot(f"Scores of {category['name']} by label", axes.probability_axis("probability"), axis)
    plot.area(chart["edges"], chart["other"], svg.BLUE, "harmless")
    plot.area(chart["edges"], chart["violation"], svg.ORANGE, "violation", hatched=True)
    flagged = "review" if not category["note"] else "default score"
    rules = [(category["threshold_review"], flagged), (category["threshold_auto_remove"], "removal")]
    for place, (value, name) in enumerate(sorted(rule for rule in rules if rule[0] is not None)):
        plot.rule(value, name, left=place == 0)
    return plot.svg()


def history(category: str, entries: Sequence[Story], target: float) -> Markup:
    """Precision of automatic removals and recall, week after week, with intervals; the dashed line is the precision that is wanted."""
    entries = entries[-MAX_WEEKS:]
    names = tuple(entry["week"][-3:] if place % (1 + len(entries) // 9) == 0 else "" for place, entry in enumerate(entries))
    axis = axes.Axis("week", -0.5, len(entries) - 0.5, tuple(map(float, range(len(entries)))), names=names)
    plot = svg.Plot(f"Weeks of {category}", axis, axes.unit_axis("share"))
    plot.guide((-0.5, target), (len(entries) - 0.5, target))
    series = (("precision_auto_remove", svg.ORANGE, "removals right", True), ("recall", svg.GREEN, "violations flagged", False))
    for name, colour, label, square in series:
        shift = -0.07 if square else 0.07  # side by side, or one interval hides the other
        rows = [(place + shift, (entry["metrics"].get(category) or {}).get(name)) for place, entry in enumerate(entries)]
        there = [(place, row, f"{label}: {measured(row)} ({evidence(row)}), {row['n']:,.0f} labels") for place, row in rows if row]
        points = [(place, row["value"]) for place, row, _ in there if not whole(row["value"])]
        plot.line([place for place, _ in points], [value for _, value in points], colour, dashed=not square)
        for place, row, tip in there:
            plot.bar(place, row["ci_low"], row["ci_high"], colour, tip)
            if not whole(row["value"]):
                plot.dot((place, row["value"]), colour, tip, square=square)
        plot.key(colour, label, square=square)
    changes = [place for place in range(1, len(entries)) if entries[place]["model_version"] != entries[place - 1]["model_version"]]
    for place in changes[-3:]:
        plot.rule(place - 0.5, "new model", left=place > len(entries) / 2)
    return plot.svg()
