"""What an SVG may hold to be drawn as a mark: nothing that reaches outside, runs, or grows without bound."""

import re
from collections.abc import Iterator
from typing import Any, Final

MAX_DRAWN: Final = 20_000  # elements, each counted as often as it is drawn
MAX_DEPTH: Final = 40  # of elements in each other, references followed
MAX_RATIO: Final = 12.0  # of the longer side to the shorter one

SVG: Final = "{http://www.w3.org/2000/svg}"
_SHAPES = {"path", "rect", "circle", "ellipse", "line", "polyline", "polygon"}
_PARTS = {"svg", "g", "defs", "use", "symbol", "clipPath", "mask", "linearGradient", "radialGradient", "stop", "style"}
_IGNORED = {"title", "desc", "metadata"}
_REASONS = {"script": "svg_script", "text": "svg_text", "image": "svg_external", "feImage": "svg_external", "foreignObject": "svg_script"}
_HREF = re.compile(r"(^|\})(href|src)$")
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_URL = re.compile(r"url\(\s*['\"]?(?P<target>[^'\")]*)", re.IGNORECASE)
# In a stylesheet only what cannot nest may refer to another element, and nothing may be written in disguise.
_STYLE_TRICKS = re.compile(r"[@\\]|/\*|(?:mask|clip-path|filter|marker[\w-]*)\s*:", re.IGNORECASE)


class MarkRefused(ValueError):
    """A mark cannot be used.

    Args:
        reason: a code such as `svg_external`.
        detail: what was found and what to do, in one line.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


def check(root: Any) -> None:
    """Refuse elements and attributes that are not known to be harmless; drop what editors leave and no eye sees.

    Args:
        root: outermost element; changed.

    Raises:
        MarkRefused: `svg_script`, `svg_external`, `svg_text`, `svg_element` or `svg_bomb`.
    """
    for parent in list(root.iter()):
        for child in list(parent):
            if not str(child.tag).startswith(SVG) or child.tag.removeprefix(SVG) in _IGNORED:
                parent.remove(child)
    for element in root.iter():
        name = element.tag.removeprefix(SVG)
        if name not in _SHAPES | _PARTS:
            detail = f"<{name[:40]}>: expected shapes, gradients, masks and clips; turn anything else, words included, into paths"
            raise MarkRefused(_REASONS.get(name, "svg_element"), detail)
        if name == "style":
            element.text = _COMMENT.sub("", element.text or "")
            if trick := _STYLE_TRICKS.search(element.text):
                raise MarkRefused("svg_element", f"{trick.group()!r} in a stylesheet; expected colours and strokes alone")
        for key, value in [*element.attrib.items(), ("text", element.text or "")]:
            if key == "style" and "\\" in value:
                raise MarkRefused("svg_element", "a backslash in a style; expected colours and strokes alone")
            if re.match(r"on[a-z]", key):
                raise MarkRefused("svg_script", f"attribute {key[:40]}; a mark runs nothing")
            if any(not target.startswith("#") for target in _targets(key, value)):
                raise MarkRefused("svg_external", f"<{name}> refers to {value[:80]!r}; expected #ids of the same file")
    _weigh(root, _by_id(root), {}, frozenset(), 0)


def _by_id(root: Any) -> dict[str, Any]:
    """Elements by their id. Two of one id: which of them is drawn would be anybody's guess."""
    found: dict[str, Any] = {}
    for element in root.iter():
        name = element.get("id")
        if name and found.setdefault(name, element) is not element:
            raise MarkRefused("svg_element", f"id {name[:40]!r} occurs more than once; give each element its own")
    return found


def _targets(key: str, value: str) -> Iterator[str]:
    """What an attribute, or a text, refers to."""
    if _HREF.search(key):
        yield value.strip()
    yield from (match["target"].strip() for match in _URL.finditer(value))


def _weigh(element: Any, by_id: dict[str, Any], known: dict[str, tuple[int, int]], above: frozenset[str], depth: int) -> tuple[int, int]:
    """Elements drawn for `element`, and how deep they lie in each other; references count as what they stand for.

    Args:
        element: to weigh.
        by_id: elements by their id.
        known: what was weighed already, by id; grows.
        above: ids that `element` is drawn within.
        depth: of `element`.
    """
    here = above | {element.get("id")} if element.get("id") else above
    parts = [_weigh(child, by_id, known, here, depth + 1) for child in element] if depth < MAX_DEPTH else [(0, MAX_DEPTH)]
    for target in (name.removeprefix("#") for key, value in element.attrib.items() for name in _targets(key, value)):
        if target in here:
            raise MarkRefused("svg_bomb", f"#{target[:40]} contains itself")
        if target in by_id and depth < MAX_DEPTH:
            if target not in known:
                known[target] = _weigh(by_id[target], by_id, known, here, depth + 1)
            parts.append(known[target])
    count, height = 1 + sum(part[0] for part in parts), 1 + max((part[1] for part in parts), default=0)
    if count > MAX_DRAWN or depth + height > MAX_DEPTH:
        raise MarkRefused("svg_bomb", f"more than {MAX_DRAWN} elements to draw, or more than {MAX_DEPTH} in each other")
    return count, height
