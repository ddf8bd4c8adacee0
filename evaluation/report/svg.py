"""Charts as inline SVG: no script, no font and no network, the same in a mail client, a browser and on paper."""

from collections.abc import Sequence
from itertools import pairwise

from markupsafe import Markup

from upheld.evaluation.report.axes import Axis, percent

# Okabe & Ito (2008), "Color Universal Design": told apart under every common kind of colour blindness.
BLUE, ORANGE, GREEN, GREY, INK = "#0072B2", "#D55E00", "#009E73", "#8a8f98", "#1d2430"
WIDTH, HEIGHT = 360, 288
LEFT, RIGHT, TOP, BOTTOM = 50, 20, 46, 42  # above the plot: a line for the key, a line for the names of rules
Point = tuple[float, float]


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
