"""Draw docs/architecture.svg and write the tables of rooms in docs/architecture.md, both read off the code.

usage: python docs/draw_architecture.py            writes both files; the test `tests/test_architecture_page.py` fails where they are old

A box is a room: a folder of a package, or a file that lies beside the folders. It stands one floor above the highest room that it
imports; a line is an import that no other path of lines explains (the transitive reduction), so every import can be followed down.
"""

import ast
import re
from itertools import pairwise
from pathlib import Path

import grimp

DOCS = Path(__file__).parent
PAGE, PICTURE = DOCS / "architecture.md", DOCS / "architecture.svg"
PACKAGES = ("registry", "evaluation", "training", "feature_store", "common", "dags")
BOX_W, BOX_H, GAP_X, GAP_Y, MARGIN, TITLE_H = 148, 26, 14, 30, 16, 26
ROWS = (("registry",), ("evaluation", "training"), ("feature_store",), ("common", "dags"))
STYLE = (
    "text{font:12px sans-serif;fill:#1b1f24}.package{fill:#f6f8fa;stroke:#8c959f}.room{fill:#fff;stroke:#57606a}"
    ".title{font-weight:bold}path{fill:none;stroke:#8c959f}"
)


def rooms_of(package: str, graph: grimp.ImportGraph) -> dict[str, set[str]]:
    """Room -> the rooms of the same package that it imports."""
    prefix = f"upheld.{package}."
    modules = [name for name in graph.modules if name.startswith(prefix)]
    found: dict[str, set[str]] = {name.removeprefix(prefix).split(".")[0]: set() for name in modules}
    for module in modules:
        room = module.removeprefix(prefix).split(".")[0]
        for imported in graph.find_modules_directly_imported_by(module):
            if imported.startswith(prefix) and (other := imported.removeprefix(prefix).split(".")[0]) != room:
                found[room].add(other)
    return found


def floors(rooms: dict[str, set[str]]) -> dict[str, int]:
    """Room -> floor: 0 where it imports none, else one above the highest that it imports.

    Raises:
        ValueError: rooms import each other in a circle.
    """
    known: dict[str, int] = {}
    while len(known) < len(rooms):
        ready = [room for room in rooms if room not in known and rooms[room] <= known.keys()]
        if not ready:
            raise ValueError(f"rooms import each other in a circle: {', '.join(sorted(set(rooms) - set(known)))}")
        known |= {room: 1 + max((known[other] for other in rooms[room]), default=-1) for room in ready}
    return known


def reduced(rooms: dict[str, set[str]]) -> list[tuple[str, str]]:
    """The imports that are not explained by others: (importer, imported), sorted."""
    reach: dict[str, set[str]] = {}
    for room in sorted(rooms, key=floors(rooms).__getitem__):
        reach[room] = rooms[room].union(*(reach[other] for other in rooms[room])) if rooms[room] else set()
    return sorted((room, other) for room in rooms for other in rooms[room] if not any(other in reach[via] for via in rooms[room]))


def draw(package: str, rooms: dict[str, set[str]], left: int, top: int) -> tuple[list[str], int, int]:
    """One package as SVG elements with its top left corner at (left, top), pixels. Returns them, and the width and height."""
    level = floors(rooms)
    rows = [sorted(room for room in rooms if level[room] == floor) for floor in range(max(level.values()) + 1)][::-1]
    width = 2 * MARGIN + max(len(row) for row in rows) * (BOX_W + GAP_X) - GAP_X
    height = TITLE_H + MARGIN + len(rows) * (BOX_H + GAP_Y) - GAP_Y + MARGIN
    at = {
        room: (
            left + (width + GAP_X) // 2 + (2 * place - len(row)) * (BOX_W + GAP_X) // 2,
            top + TITLE_H + MARGIN + depth * (BOX_H + GAP_Y),
        )
        for depth, row in enumerate(rows)
        for place, room in enumerate(row)
    }
    parts = [f'<rect class="package" x="{left}" y="{top}" width="{width}" height="{height}" rx="6"/>']
    parts.append(f'<text class="title" x="{left + MARGIN}" y="{top + 20}">{package}/</text>')
    for upper, lower in reduced(rooms):
        (x, y), (to_x, to_y) = at[upper], at[lower]
        x, y, to_x = x + BOX_W // 2, y + BOX_H, to_x + BOX_W // 2
        parts.append(f'<path d="M{x} {y}C{x} {y + GAP_Y} {to_x} {to_y - GAP_Y} {to_x} {to_y}"/>')
    for room, (x, y) in sorted(at.items()):
        parts.append(f'<rect class="room" x="{x}" y="{y}" width="{BOX_W}" height="{BOX_H}" rx="4"/>')
        parts.append(f'<text x="{x + BOX_W // 2}" y="{y + 17}" text-anchor="middle">{room}</text>')
    return parts, width, height


def picture(graph: grimp.ImportGraph) -> str:
    """The whole house as one SVG: packages above those that they import."""
    parts: list[str] = []
    top, widest, middles = MARGIN, 0, []
    for row in ROWS:
        left, tallest = MARGIN, 0
        for package in row:
            drawn, width, height = draw(package, rooms_of(package, graph), left, top)
            parts += drawn
            left, tallest = left + width + 2 * MARGIN, max(tallest, height)
        middles.append((top, top + tallest))
        top, widest = top + tallest + 2 * GAP_Y, max(widest, left)
    arrows = [f'<path d="M{MARGIN + 40} {bottom}V{below}" stroke-dasharray="4"/>' for (_, bottom), (below, _) in pairwise(middles)]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {widest} {top}" role="img" aria-label="Packages and rooms of Upheld">'
    return "\n".join([head, f"<style>{STYLE}</style>", *arrows, *parts, "</svg>"]) + "\n"


def table(package: str, graph: grimp.ImportGraph) -> str:
    """A package's rooms as a Markdown table: name, and the first line of its docstring."""
    lines = ["| room | what it is |", "|---|---|"]
    folder = DOCS.parent / package
    for room in sorted(rooms_of(package, graph)):
        file = folder / room / "__init__.py" if (folder / room).is_dir() else folder / f"{room}.py"
        text = (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").split("\n")[0].replace("|", "\\|")
        lines.append(f"| [{room}](../{file.relative_to(DOCS.parent).as_posix().removesuffix('/__init__.py')}) | {text} |")
    return "\n".join(lines)


def page(text: str, graph: grimp.ImportGraph) -> str:
    """The page with every table between `<!-- rooms of X -->` and `<!-- end -->` written anew."""
    return re.sub(
        r"<!-- rooms of (\w+) -->\n.*?<!-- end -->",
        lambda match: f"<!-- rooms of {match[1]} -->\n{table(match[1], graph)}\n<!-- end -->",
        text,
        flags=re.DOTALL,
    )


def main() -> None:
    """Write both files."""
    graph = grimp.build_graph("upheld", cache_dir=None)
    PICTURE.write_text(picture(graph), encoding="utf-8")
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), graph), encoding="utf-8")


if __name__ == "__main__":
    main()
