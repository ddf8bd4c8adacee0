"""Finds measured rates that a report shows as 0 % or 100 %, for the tests of reports.

The rule: such a figure may stand only as an end of an interval (`0.0 % to 4.2 %`), or where the page marks it as no measurement: class
`whole` (a level, such as that of an alarm), `target`, and `tick` (a chart's axis). In charts no mark lies on the axis of 0 or of 1.
"""

import re
from html.parser import HTMLParser

VOID = {"meta", "br", "img", "link", "input"}
EXEMPT = {"whole", "target", "tick"}
INTERVAL = re.compile(r"[<>]?[\d.,]+ % to [<>]?[\d.,]+ %")
BARE = re.compile(r"(?<![\d.,])(?:0|0\.0+|100|100\.0+) ?%")
MARK = re.compile(r'<(?:circle [^>]*cy="([\d.]+)"|rect [^>]*y="([\d.]+)" width="[\d.]+" height="([\d.]+)")[^>]*><title>')
TOP, FLOOR = 46.0, 246.0  # of a chart's frame


class Texts(HTMLParser):
    """Every piece of text of a page but those in exempt elements, one for each innermost element."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[tuple[str, bool]] = []
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        classes = set((dict(attrs).get("class") or "").split())
        if tag not in VOID:
            self.open.append((tag, bool(classes & EXEMPT) or tag == "style"))
        self.found += [value for name, value in attrs if name in ("aria-label", "alt") and value]

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        if data.strip() and not any(exempt for _, exempt in self.open):
            self.found.append(data)


def in_page(page: str) -> list[str]:
    """What breaks the rule in HTML."""
    texts = Texts()
    texts.feed(page)
    assert len(texts.found) > 50
    marks = [float(circle or 0) or float(corner) + float(height) / 2 for circle, corner, height in MARK.findall(page)]
    return in_lines(texts.found) + [f"a mark at {y}" for y in marks if y <= TOP or y >= FLOOR]


def in_lines(lines: list[str]) -> list[str]:
    """What breaks the rule in lines of text."""
    return [line.strip() for line in lines if BARE.search(INTERVAL.sub("", line))]
