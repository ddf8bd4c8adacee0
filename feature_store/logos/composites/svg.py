"""SVG brand marks from anywhere: what could reach outside, run, or grow without bound is refused; the rest is drawn at a bounded size.

What is drawn is the checked tree written anew, never the bytes that came.
"""

import io
import math
import re
from typing import Any, Final

import resvg_py
from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException
from PIL import Image

from upheld.feature_store.logos.composites.svg_checks import MAX_RATIO, SVG, MarkRefused, check

MAX_BYTES: Final = 2 << 20
_LENGTH = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:px)?\s*")


def draw(content: bytes, side_px: int) -> Image.Image:
    """Draw an SVG.

    Args:
        content: bytes of the file.
        side_px: longer side of the picture.

    Returns:
        an RGBA picture with straight alpha.

    Raises:
        MarkRefused: `svg_too_large`, `svg_malformed`, `svg_entities`, `svg_script`, `svg_external`, `svg_text`, `svg_element`,
            `svg_bomb` or `svg_size`.
    """
    root = _parsed(content)
    check(root)
    width, height = _size(root)
    scale = side_px / max(width, height)
    root.set("width", str(max(1, round(width * scale))))
    root.set("height", str(max(1, round(height * scale))))
    try:
        drawn = resvg_py.svg_to_bytes(svg_string=ElementTree.tostring(root, encoding="unicode"), skip_system_fonts=True)
    except ValueError as error:
        raise MarkRefused("svg_malformed", str(error)[:200]) from error
    with Image.open(io.BytesIO(drawn), formats=["PNG"]) as image:
        return image.convert("RGBA")


def _parsed(content: bytes) -> Any:
    if len(content) > MAX_BYTES:
        raise MarkRefused("svg_too_large", f"{len(content)} bytes, at most {MAX_BYTES}")
    try:
        root = ElementTree.fromstring(content)
    except DefusedXmlException as error:
        raise MarkRefused("svg_entities", f"{type(error).__name__}: a mark needs no entities; remove them") from error
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise MarkRefused("svg_malformed", f"no XML: {error}") from error
    if root.tag != f"{SVG}svg":
        raise MarkRefused("svg_malformed", f"the outermost element is {root.tag[:80]!r}; expected svg in {SVG[1:-1]}")
    return root


def _size(root: Any) -> tuple[float, float]:
    """Width and height of what is drawn; the root gets a viewBox if it has none."""
    if root.get("viewBox") is None:
        sides = [_LENGTH.fullmatch(root.get(side, "")) for side in ("width", "height")]
        root.set("viewBox", "0 0 " + " ".join(side[1] if side else "?" for side in sides))
    try:
        _, _, width, height = (float(word) for word in re.split(r"[\s,]+", root.get("viewBox").strip()))
    except ValueError as error:
        raise MarkRefused("svg_size", "expected a viewBox of four numbers, or width and height in pixels") from error
    if not (math.isfinite(width) and math.isfinite(height) and width > 0 and height > 0):
        raise MarkRefused("svg_size", f"width {width:g} and height {height:g}: expected more than 0")
    if max(width, height) > MAX_RATIO * min(width, height):
        raise MarkRefused("svg_size", f"{width:g} x {height:g}: one side is more than {MAX_RATIO:g} times the other")
    return width, height
