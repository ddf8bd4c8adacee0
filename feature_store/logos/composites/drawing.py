"""Drawing a mark, SVG or picture, in a confined worker: what is hostile harms no other process.

Of an SVG, what could reach outside, run, or grow without bound is refused; the rest is drawn at a bounded size. What is drawn is the
checked tree written anew, never the bytes that came.
"""

import io
import math
import re
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import resvg_py
from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException
from PIL import Image

from upheld.common.params.section import Section
from upheld.feature_store.decoding.contract import Arrays, Undecodable
from upheld.feature_store.decoding.images import decode_transparent

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
MAX_SVG_BYTES: Final = 2 << 20
_LENGTH = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:px)?\s*")
_XML: Final = re.compile(rb"(\xef\xbb\xbf|\xff\xfe|\xfe\xff)?[\s\x00]*<")


def check(root: Any) -> None:
    """Refuse elements and attributes that are not known to be harmless; drop from the tree what editors leave and no eye sees.

    Raises:
        Undecodable: `svg_script`, `svg_external`, `svg_text`, `svg_element` or `svg_bomb`.
    """
    for parent in list(root.iter()):
        for child in list(parent):
            if not str(child.tag).startswith(SVG) or child.tag.removeprefix(SVG) in _IGNORED:
                parent.remove(child)
    for element in root.iter():
        name = element.tag.removeprefix(SVG)
        if name not in _SHAPES | _PARTS:
            detail = f"<{name[:40]}>: expected shapes, gradients, masks and clips; turn anything else, words included, into paths"
            raise Undecodable(_REASONS.get(name, "svg_element"), detail)
        if name == "style":
            element.text = _COMMENT.sub("", element.text or "")
            if trick := _STYLE_TRICKS.search(element.text):
                raise Undecodable("svg_element", f"{trick.group()!r} in a stylesheet; expected colours and strokes alone")
        for key, value in [*element.attrib.items(), ("text", element.text or "")]:
            if key == "style" and "\\" in value:
                raise Undecodable("svg_element", "a backslash in a style; expected colours and strokes alone")
            if re.match(r"on[a-z]", key):
                raise Undecodable("svg_script", f"attribute {key[:40]}; a mark runs nothing")
            if any(not target.startswith("#") for target in _targets(key, value)):
                raise Undecodable("svg_external", f"<{name}> refers to {value[:80]!r}; expected #ids of the same file")
    _weigh(root, _by_id(root), {}, frozenset(), 0)


def _by_id(root: Any) -> dict[str, Any]:
    """Elements by their id. Two of one id are refused: which of them is drawn would be anybody's guess."""
    found: dict[str, Any] = {}
    for element in root.iter():
        name = element.get("id")
        if name and found.setdefault(name, element) is not element:
            raise Undecodable("svg_element", f"id {name[:40]!r} occurs more than once; give each element its own")
    return found


def _targets(key: str, value: str) -> Iterator[str]:
    """What an attribute, or a text, refers to."""
    if _HREF.search(key):
        yield value.strip()
    yield from (match["target"].strip() for match in _URL.finditer(value))


def _weigh(element: Any, by_id: dict[str, Any], known: dict[str, tuple[int, int]], above: frozenset[str], depth: int) -> tuple[int, int]:
    """Elements drawn for `element`, which lies at `depth` within the ids `above`, and how deep they lie in each other.

    References count as what they stand for; what was weighed already is in `known`, by id, which grows.
    """
    here = above | {element.get("id")} if element.get("id") else above
    parts = [_weigh(child, by_id, known, here, depth + 1) for child in element] if depth < MAX_DEPTH else [(0, MAX_DEPTH)]
    for target in (name.removeprefix("#") for key, value in element.attrib.items() for name in _targets(key, value)):
        if target in here:
            raise Undecodable("svg_bomb", f"#{target[:40]} contains itself")
        if target in by_id and depth < MAX_DEPTH:
            if target not in known:
                known[target] = _weigh(by_id[target], by_id, known, here, depth + 1)
            parts.append(known[target])
    count, height = 1 + sum(part[0] for part in parts), 1 + max((part[1] for part in parts), default=0)
    if count > MAX_DRAWN or depth + height > MAX_DEPTH:
        raise Undecodable("svg_bomb", f"more than {MAX_DRAWN} elements to draw, or more than {MAX_DEPTH} in each other")
    return count, height


def draw_svg(content: bytes, side_px: int) -> Image.Image:
    """Draw an SVG so that its longer side has `side_px` pixels: an RGBA picture with straight alpha.

    Raises:
        Undecodable: `svg_too_large`, `svg_malformed`, `svg_entities`, `svg_script`, `svg_external`, `svg_text`, `svg_element`,
            `svg_bomb` or `svg_size`.
    """
    if len(content) > MAX_SVG_BYTES:
        raise Undecodable("svg_too_large", f"{len(content)} bytes, at most {MAX_SVG_BYTES}")
    try:
        root = ElementTree.fromstring(content)
    except DefusedXmlException as error:
        raise Undecodable("svg_entities", f"{type(error).__name__}: a mark needs no entities; remove them") from error
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise Undecodable("svg_malformed", f"no XML: {error}") from error
    if root.tag != f"{SVG}svg":
        raise Undecodable("svg_malformed", f"the outermost element is {root.tag[:80]!r}; expected svg in {SVG[1:-1]}")
    check(root)
    width, height = _size(root)
    scale = side_px / max(width, height)
    root.set("width", str(max(1, round(width * scale))))
    root.set("height", str(max(1, round(height * scale))))
    try:
        drawn = resvg_py.svg_to_bytes(svg_string=ElementTree.tostring(root, encoding="unicode"), skip_system_fonts=True)
    except ValueError as error:
        raise Undecodable("svg_malformed", str(error)[:200]) from error
    with Image.open(io.BytesIO(drawn), formats=["PNG"]) as image:
        return image.convert("RGBA")


def _size(root: Any) -> tuple[float, float]:
    """Width and height of what is drawn; the root gets a viewBox if it has none."""
    if root.get("viewBox") is None:
        sides = [_LENGTH.fullmatch(root.get(side, "")) for side in ("width", "height")]
        root.set("viewBox", "0 0 " + " ".join(side[1] if side else "?" for side in sides))
    try:
        _, _, width, height = (float(word) for word in re.split(r"[\s,]+", root.get("viewBox").strip()))
    except ValueError as error:
        raise Undecodable("svg_size", "expected a viewBox of four numbers, or width and height in pixels") from error
    if not (math.isfinite(width) and math.isfinite(height) and width > 0 and height > 0):
        raise Undecodable("svg_size", f"width {width:g} and height {height:g}: expected more than 0")
    if max(width, height) > MAX_RATIO * min(width, height):
        raise Undecodable("svg_size", f"{width:g} x {height:g}: one side is more than {MAX_RATIO:g} times the other")
    return width, height


class MarkBounds(Section):
    """Pixels of a mark's longer side as it is drawn, pixels that a picture file may have, and memory of a process that draws."""

    side_px: int
    max_pixels: int
    decode_memory_bytes: int


class MarkDrawer:
    """The decoder that `feature_store/sandbox/pool.py` makes in its workers."""

    def __init__(self, bounds: MarkBounds) -> None:
        self._bounds = bounds

    def decode(self, content: bytes) -> Arrays:
        """Draw one mark. What begins like XML is an SVG, whatever its file is called.

        Returns:
            rgba: uint8 (height, width, 4), straight alpha, at most `side_px` on either side.

        Raises:
            Undecodable: reasons of `draw_svg`, `mark_too_large` or `mark_corrupt`.
        """
        if _XML.match(content):
            return {"rgba": np.asarray(draw_svg(content, self._bounds.side_px))}
        try:
            picture = Image.fromarray(decode_transparent(content, self._bounds.max_pixels))
        except Undecodable as error:
            reason = "mark_too_large" if error.refused.reason == "image_bomb" else "mark_corrupt"
            raise Undecodable(reason, f"no readable picture: {error}; expected SVG, PNG or WebP") from error
        picture.thumbnail((self._bounds.side_px, self._bounds.side_px))
        return {"rgba": np.asarray(picture)}
