"""Drawing a mark, SVG or picture, in a confined worker: what is hostile harms no other process."""

import re
from typing import Final

import numpy as np
from PIL import Image

from upheld.common.params.section import Section
from upheld.feature_store.decoding.contract import Arrays, Undecodable
from upheld.feature_store.decoding.images import decode_transparent
from upheld.feature_store.logos.composites import svg
from upheld.feature_store.logos.composites.svg_checks import MarkRefused

_XML: Final = re.compile(rb"(\xef\xbb\xbf|\xff\xfe|\xfe\xff)?[\s\x00]*<")


class MarkBounds(Section):
    """Pixels of a mark's longer side as it is drawn, pixels that a picture file may have, and memory of a process that draws."""

    side_px: int
    max_pixels: int
    decode_memory_bytes: int


class MarkDrawer:
    """What `feature_store/sandbox/pool.py` makes in its workers.

    Args:
        bounds: see there.
    """

    def __init__(self, bounds: MarkBounds) -> None:
        self._bounds = bounds

    def decode(self, content: bytes) -> Arrays:
        """Draw one mark. What begins like XML is an SVG, whatever its file is called.

        Returns:
            rgba: uint8 (height, width, 4), straight alpha, at most `side_px` on either side.

        Raises:
            Undecodable: reasons of `logo_svg.draw`, `mark_too_large` or `mark_corrupt`.
        """
        try:
            drawn = svg.draw(content, self._bounds.side_px) if _XML.match(content) else self._picture(content)
        except MarkRefused as error:
            raise Undecodable(error.reason, error.detail) from error
        return {"rgba": np.asarray(drawn)}

    def _picture(self, content: bytes) -> Image.Image:
        try:
            picture = Image.fromarray(decode_transparent(content, self._bounds.max_pixels))
        except Undecodable as error:
            reason = "mark_too_large" if error.refused.reason == "image_bomb" else "mark_corrupt"
            raise MarkRefused(reason, f"no readable picture: {error}; expected SVG, PNG or WebP") from error
        picture.thumbnail((self._bounds.side_px, self._bounds.side_px))
        return picture
