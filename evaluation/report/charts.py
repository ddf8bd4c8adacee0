"""The report's charts, drawn from report.json's numbers as inline SVG: no script, no font and no network, the same in a mail client, a
browser and on paper."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from markupsafe import Markup

from upheld.evaluation.report.words import evidence, measured, whole

LOGIT_TICKS = (0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999)
UNIT_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)
# Okabe & Ito (2008), "Color Universal Design": told apart under every common kind of colour blindness.
BLUE, ORANGE, GREEN, GREY, INK = "#0072B2", "#D55E00", "#009E73", "#8a8f98", "#1d2430"
WIDTH, HEIGHT = 360, 288
LEFT, RIGHT, TOP, BOTTOM = 50, 20, 46, 42  # above the plot: a line for the key, a line for the names of rules
Point = tuple[float, float]
Story = Mapping[str, Any]
MAX_WEEKS = 27


@dataclass(frozen=True)
class Axis:
    """One axis: values from `low` to `high`, drawn on the logit scale where `stretched`; ticks are percentages unless they have `names`."""

    label: str
    low: float
    high: float
    ticks: tuple[float, ...]
    stretched: bool = False
    names: tuple[str, ...] = ()

    def named(self) -> list[tuple[float, str]]:
        """Every tick with what is written at it."""
        return list(zip(self.ticks, self.names or map(percent, self.ticks), strict=True))

    def place(self, value: float) -> float:
        """Where a value lies between the ends, in [0, 1]; values outside are drawn at the end."""
        value = min(max(value, self.low), self.high)
        low, high, value = (math.log(v / (1 - v)) if self.stretched else v for v in (self.low, self.high, value))
        return (value - low) / (high - low)


def probability_axis(label: str) -> Axis:
    """An axis for probabilities that leaves room near 0 and near 1, where moderation decides."""
    return Axis(label, 0.0005, 0.9995, LOGIT_TICKS, stretched=True)


def unit_axis(label: str) -> Axis:
    """A plain axis from 0 to 1."""
    return Axis(label, 0.0, 1.0, UNIT_TICKS)


def percent(share: float) -> str:
    """A share in [0, 1] as a percentage with the digits that matter near 0 and near 1."""
    digits = 1 if 0 < share < 0.00995 or 0.99005 < share < 1 else 0
    return f"{100 * share:.{digits}f}%"


class Plot:
    """A small cartesian chart; draw on it, then take `svg`."""

    def __init__(self, title: str, x: Axis, y: Axis) -> None:
        self.title, self.x, self.y = title, x, y
        self.marks: list[Markup] = []
        self.key_end = LEFT
        self.num_points = 0

    def line(self, xs: Sequence[float], ys: Sequence[float], colour: str = BLUE, *, dashed: bool = False) -> None:
        """A line through the points in the order given."""
        self.num_points += len(xs)
        dash = Markup(' stroke-dasharray="6 3"') if dashed else Markup("")
        polyline = Markup('<polyline points="{}" fill="none" stroke="{}" stroke-width="2" stroke-linejoin="round"{}/>')
        self._add(polyline, self._path(xs, ys), colour, dash)

    def guide(self, start: Point, end: Point) -> None:
        """A dashed line that is no data."""
        dashes = Markup('<polyline points="{}" fill="none" stroke="{}" stroke-width="1.5" stroke-dasharray="5 4"/>')
        self._add(dashes, self._path(*zip(start, end, strict=True)), GREY)

    def band(self, xs: Sequence[float], low: Sequence[float], high: Sequence[float], colour: str = BLUE) -> None:
        """The area between two lines."""
        outline = f"{self._path(xs, high)} {self._path(xs[::-1], low[::-1])}"
        self._add(Markup('<polygon points="{}" fill="{}" fill-opacity="0.18"/>'), outline, colour)

    def dot(self, at: Point, colour: str, tip: str, *, square: bool = False) -> None:
        """A point with a tooltip; a square one is told from a round one without its colour."""
        self.num_points += 1
        self.marks.append(_marker(*self._at(*at), 3.2, colour, colour, square, tip))

    def bar(self, x: float, low: float, high: float, colour: str, tip: str) -> None:
        """An upright interval with a tooltip."""
        self.num_points += 1
        (px, y0), (_, y1) = self._at(x, low), self._at(x, high)
        path = Markup('<path d="M{:.1f} {:.1f}V{:.1f}" stroke="{}" stroke-width="2"><title>{}</title></path>')
        self._add(path, px, y0, y1, colour, tip)

    def cross(self, at: Point, low: Point, high: Point, colour: str, label: str, *, square: bool = False, marked: bool = True) -> None:
        """A point with its intervals both ways, named in the key; the intervals alone where it is not `marked`."""
        self.num_points += 1
        (px, py), (x0, y0), (x1, y1) = self._at(*at), self._at(*low), self._at(*high)
        lines = Markup('<path d="M{:.1f} {:.1f}H{:.1f}M{:.1f} {:.1f}V{:.1f}" stroke="{}" stroke-width="2"/>')
        self._add(lines, x0, py, x1, px, y0, y1, colour)
        if marked:
            self.marks.append(_marker(px, py, 5, "#fff", colour, square))
        self.key(colour, label, square=square)

    def area(self, edges: Sequence[float], heights: Sequence[float], colour: str, label: str, hatched: bool = False) -> None:
        """Steps over bins: heights[i] from edges[i] to edges[i + 1]."""
        self.num_points += sum(height > 0 for height in heights)
        xs = [edge for left, right in pairwise(edges) for edge in (left, right)]
        ys = [height for height in heights for _ in (0, 1)]
        outline = self._path([xs[0], *xs, xs[-1]], [self.y.low, *ys, self.y.low])
        dash = Markup(' stroke-dasharray="4 2"') if hatched else Markup("")
        polygon = Markup('<polygon points="{}" fill="{}" fill-opacity="0.22" stroke="{}" stroke-width="1.6"{}/>')
        self._add(polygon, outline, colour, colour, dash)
        self.key(colour, label)

    def rule(self, x: float, label: str, *, left: bool) -> None:
        """A vertical line with its name above the plot, to its left or right."""
        px, _ = self._at(x, self.y.low)
        line = Markup('<line x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}" stroke="{3}" stroke-width="1.5"/>')
        self._add(line, px, TOP - 6, HEIGHT - BOTTOM, INK)
        anchor, shift = ("end", 2) if left else ("start", -2)
        text = Markup('<text x="{:.1f}" y="{}" text-anchor="{}" class="key">{}</text>')
        self._add(text, px + shift, TOP - 9, anchor, label)

    def svg(self) -> Markup:
        """The chart as an SVG element that scales with its column; a chart without a point says so."""
        frame = [*self._grid_x(), *self._grid_y()]
        empty = Markup('<text x="{}" y="{}" text-anchor="middle" class="none">too few labelled rows to draw</text>')
        body = Markup("").join([*frame, *(self.marks if self.num_points else [empty.format(WIDTH / 2, HEIGHT / 2)])])
        return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}" data-points="{}">{}</svg>').format(
            WIDTH, HEIGHT, self.title, self.num_points, body
        )

    def _add(self, template: Markup, *values: object) -> None:
        self.marks.append(template.format(*values))

    def key(self, colour: str, label: str, *, square: bool = True) -> None:
        """Name a mark in the line above the plot, after the names that are there."""
        self.marks.append(_marker(self.key_end + 5, 13, 5, colour, colour, square))
        self._add(Markup('<text x="{}" y="17" class="key">{}</text>'), self.key_end + 15, label)
        self.key_end += 28 + 6 * len(label)

    def _at(self, x: float, y: float) -> tuple[float, float]:
        across, up = self.x.place(x), self.y.place(y)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    def _path(self, xs: Sequence[float], ys: Sequence[float]) -> str:
        return " ".join("{:.1f},{:.1f}".format(*self._at(x, y)) for x, y in zip(xs, ys, strict=True))

    def _grid_x(self) -> list[Markup]:
        floor = HEIGHT - BOTTOM
        lines = []
        for tick, name in self.x.named():
            px, _ = self._at(tick, self.y.low)
            lines.append(Markup('<line x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}" class="grid"/>').format(px, TOP, floor))
            lines.append(Markup('<text x="{:.1f}" y="{}" text-anchor="middle" class="tick">{}</text>').format(px, floor + 17, name))
        middle = (LEFT + WIDTH - RIGHT) / 2
        return [*lines, Markup('<text x="{}" y="{}" text-anchor="middle" class="axis">{}</text>').format(middle, HEIGHT - 8, self.x.label)]

    def _grid_y(self) -> list[Markup]:
        lines = []
        for tick in self.y.ticks:
            _, py = self._at(self.x.low, tick)
            lines.append(Markup('<line x1="{1}" x2="{2}" y1="{0:.1f}" y2="{0:.1f}" class="grid"/>').format(py, LEFT, WIDTH - RIGHT))
            lines.append(Markup('<text x="{}" y="{:.1f}" text-anchor="end" class="tick">{}</text>').format(LEFT - 5, py + 4, percent(tick)))
        middle = (TOP + HEIGHT - BOTTOM) / 2
        name = Markup('<text x="11" y="{0}" text-anchor="middle" transform="rotate(-90 11 {0})" class="axis">{1}</text>')
        return [*lines, name.format(middle, self.y.label)]


def _marker(x: float, y: float, radius: float, fill: str, stroke: str, square: bool, tip: str = "") -> Markup:
    """A round or square mark around a point, with a tooltip if there is a text for it."""
    title = Markup("<title>{}</title>").format(tip) if tip else Markup("")
    if square:
        rect = Markup('<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" fill="{}" stroke="{}" stroke-width="2">{}</rect>')
        return rect.format(x - radius, y - radius, 2 * radius, 2 * radius, fill, stroke, title)
    circle = Markup('<circle cx="{:.1f}" cy="{:.1f}" r="{:.1f}" fill="{}" stroke="{}" stroke-width="2">{}</circle>')
    return circle.format(x, y, radius, fill, stroke, title)


def interval_bar(value: float | None, low: float | None, high: float | None, colour: str = BLUE) -> Markup:
    """A dot with its interval on a track from 0 to 1, to stand beside the numbers in a table."""
    if value is None:
        return Markup("")
    low, high = (value if low is None else low), (value if high is None else high)
    x, x0, x1 = (4 + 92 * min(max(v, 0.0), 1.0) for v in (value, low, high))
    return Markup(
        '<svg viewBox="0 0 100 12" class="bar" aria-hidden="true"><line x1="4" x2="96" y1="6" y2="6" class="grid"/>'
        '<line x1="{:.1f}" x2="{:.1f}" y1="6" y2="6" stroke="{}" stroke-width="3"/><circle cx="{:.1f}" cy="6" r="3.5" fill="{}"/></svg>'
    ).format(x0, x1, colour, x, colour)


def reliability(category: Story) -> Markup:
    """Violations found among reviewed posts against the probability given, with its band; the dashed line is perfect agreement.

    In every chart none or all of a handful of labels is no point at 0 % or 100 %, but its interval alone.
    """
    curve = category["charts"]["reliability"]
    plot = Plot(f"Reliability of {category['name']}", probability_axis("probability given"), probability_axis("violations found"))
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
            plot.bar(at[0], low, high, BLUE, tip)
        else:
            plot.dot(at, BLUE, tip)
    return plot.svg()


def precision_recall(category: Story) -> Markup:
    """Precision against recall over all thresholds, with the thresholds in force and their intervals."""
    curve, metrics = category["charts"]["precision_recall"], category["metrics"]
    plot = Plot(f"Precision and recall of {category['name']}", unit_axis("recall"), unit_axis("precision"))
    plot.line(curve["recall"], curve["precision"])
    flagged = "review threshold" if not category["note"] else "default score"
    for suffix, colour, name in (("", GREEN, flagged), ("_auto_remove", ORANGE, "automatic removal")):
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
    axis = Axis("share of the label's posts", 0.0, top, ticks)
    plot = Plot(f"Scores of {category['name']} by label", probability_axis("probability"), axis)
    plot.area(chart["edges"], chart["other"], BLUE, "harmless")
    plot.area(chart["edges"], chart["violation"], ORANGE, "violation", hatched=True)
    flagged = "review" if not category["note"] else "default score"
    rules = [(category["threshold_review"], flagged), (category["threshold_auto_remove"], "removal")]
    for place, (value, name) in enumerate(sorted(rule for rule in rules if rule[0] is not None)):
        plot.rule(value, name, left=place == 0)
    return plot.svg()


def history(category: str, entries: Sequence[Story], target: float) -> Markup:
    """Precision of automatic removals and recall, week after week, with intervals; the dashed line is the precision that is wanted."""
    entries = entries[-MAX_WEEKS:]
    names = tuple(entry["week"][-3:] if place % (1 + len(entries) // 9) == 0 else "" for place, entry in enumerate(entries))
    axis = Axis("week", -0.5, len(entries) - 0.5, tuple(map(float, range(len(entries)))), names=names)
    plot = Plot(f"Weeks of {category}", axis, unit_axis("share"))
    plot.guide((-0.5, target), (len(entries) - 0.5, target))
    series = (("precision_auto_remove", ORANGE, "removals right", True), ("recall", GREEN, "violations flagged", False))
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
