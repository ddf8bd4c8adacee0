"""Shapes that look like marks and are none: what a detector must learn to leave alone."""

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from upheld.feature_store.logos.composites.marks import Mark

_SIDE_PX = 200
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789&@#*+?!"


def distractor(rng: np.random.Generator) -> Mark:
    """Draw one: a word, or a few shapes on top of each other, in one to three colours.

    Returns:
        a mark without a brand.
    """
    colours = [tuple(int(c) for c in rng.integers(0, 256, 3)) for _ in range(3)]
    picture = Image.new("RGBA", (_SIDE_PX, _SIDE_PX))
    pen = ImageDraw.Draw(picture)
    if rng.random() < 0.4:
        word = "".join(rng.choice(list(_LETTERS), rng.integers(1, 7)))
        pen.text((_SIDE_PX / 2, _SIDE_PX / 2), word, colours[0], ImageFont.load_default(_SIDE_PX / (0.8 * len(word) + 0.6)), "mm")
    else:
        for number in range(rng.integers(1, 4)):
            _shape(pen, rng, colours[number])
    seen = picture.getbbox()
    return Mark("", np.asarray(picture.crop(seen) if seen else picture), one_colour=False)


def _shape(pen: ImageDraw.ImageDraw, rng: np.random.Generator, colour: tuple[int, ...]) -> None:
    """A disc, ring, bar, polygon or star somewhere on the picture."""
    kind = rng.integers(5)
    size = rng.uniform(0.25, 0.5) * _SIDE_PX
    x, y = rng.uniform(0.3, 0.7, 2) * _SIDE_PX
    frame = (x - size, y - size * rng.uniform(0.4, 1.0), x + size, y + size)
    if kind == 0:
        pen.ellipse(frame, fill=colour)
    elif kind == 1:
        pen.ellipse(frame, outline=colour, width=int(rng.integers(8, 30)))
    elif kind == 2:
        pen.rounded_rectangle(frame, radius=float(rng.uniform(0, 20)), fill=colour)
    else:
        num_corners = int(rng.integers(3, 9))
        turns = np.sort(rng.uniform(0, 2 * np.pi, num_corners)) if kind == 3 else np.linspace(0, 2 * np.pi, 2 * num_corners, endpoint=False)
        radii = np.full(len(turns), size) if kind == 3 else size * np.where(np.arange(len(turns)) % 2, 0.45, 1.0)
        x_of, y_of = cv2.polarToCart(radii, turns)
        pen.polygon([(x + float(dx), y + float(dy)) for dx, dy in zip(x_of.ravel(), y_of.ravel(), strict=True)], fill=colour)
