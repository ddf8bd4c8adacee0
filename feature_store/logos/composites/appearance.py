"""How a mark looks where it is found: its colours, the plate under it, its light, what hides it, and what resembles one."""

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from upheld.common.params.logos import LogoCompose
from upheld.feature_store.logos.composites.geometry import Mask, Pixels
from upheld.feature_store.logos.composites.marks import Mark

Colour = NDArray[np.float32]  # red, green, blue in [0, 1]
PAD = 0.12  # of a mark's longer side: the plate's rim
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601
_SIDE_PX = 200  # of a distractor as it is drawn
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789&@#*+?!"


def coloured(mark: Mark, rng: np.random.Generator, recolour_share: float) -> tuple[Colour, Mask]:
    """Colours of a mark and its alpha, float32 (h, w, 3) and (h, w) in [0, 1].

    They are its own, or for a mark of one colour, in `recolour_share` of the cases, white, black or any other.
    """
    rgba = np.asarray(mark.rgba, dtype=np.float32) / np.float32(255)
    colours, alpha = rgba[..., :3], rgba[..., 3]
    if not mark.one_colour or rng.random() >= recolour_share:
        return colours, alpha
    ink = [np.full(3, 0.97), np.full(3, 0.05), rng.uniform(0, 1, 3)][rng.integers(3)]
    return np.broadcast_to(ink.astype(np.float32), colours.shape), alpha


def padded(colours: Colour, alpha: Mask) -> Pixels:
    """Premultiplied pixels with a clear rim of PAD."""
    pad = round(PAD * max(alpha.shape))
    return np.pad(np.dstack([colours * alpha[..., None], alpha]), ((pad, pad), (pad, pad), (0, 0)))


def plate(mark: Pixels, rng: np.random.Generator) -> Pixels:
    """A plain plate in a colour that the mark stands out from, with straight or round corners."""
    luma = float((mark[..., :3] @ _LUMA).sum() / max(mark[..., 3].sum(), 1.0))
    tint = rng.uniform(0.75, 1.0, 3) if luma < 0.55 else rng.uniform(0.0, 0.25, 3)
    height, width = mark.shape[:2]
    radius = int(rng.choice([0.0, 0.15, 0.5]) * min(width, height))
    shape = np.zeros((height, width), dtype=np.float32)
    cv2.rectangle(shape, (radius, 0), (width - 1 - radius, height - 1), 1.0, cv2.FILLED)
    cv2.rectangle(shape, (0, radius), (width - 1, height - 1 - radius), 1.0, cv2.FILLED)
    for x in (radius, width - 1 - radius):
        for y in (radius, height - 1 - radius):
            cv2.circle(shape, (x, y), radius, 1.0, cv2.FILLED)
    shape = np.maximum(shape, (mark[..., 3] > 0).astype(np.float32))  # round corners must not cut what they carry
    return np.dstack([shape[..., None] * tint.astype(np.float32), shape])


def contrast(mark: Pixels, under: NDArray[np.float32]) -> float:
    """How far a mark stands out: mean distance of its colours from those under it, in [0, 1], of the channel that shows it best.

    Args:
        mark: premultiplied (h, w, 4).
        under: the photo there, (h, w, 3).
    """
    alpha = mark[..., 3:]
    covered = float(alpha.sum())
    if covered == 0:
        return 0.0
    return float((np.abs(mark[..., :3] - under * alpha).sum(axis=(0, 1)) / covered).max())


def light(size: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float32]:
    """Light on a mark: a factor that changes from one side to the other, (h, w, 1) around 0.9."""
    ends = rng.uniform(0.65, 1.12, (2, 2)).astype(np.float32)
    return np.asarray(cv2.resize(ends, (size[1], size[0]), interpolation=cv2.INTER_LINEAR), dtype=np.float32)[..., None]


def occluder(alpha: Mask, rng: np.random.Generator) -> Mask:
    """What stands before a mark: something straight or round that comes in from one side, (h, w) 0 or 1.

    Where it stands depends on `alpha`, what is seen of the mark as it lies on the photo.
    """
    rows, columns = np.nonzero(alpha > 0.5)
    hidden = np.zeros_like(alpha)
    if not len(rows):
        return hidden
    (low_x, high_x), (low_y, high_y) = (np.quantile(columns, [0, 1]), np.quantile(rows, [0, 1]))
    reach = max(high_x - low_x, high_y - low_y)
    angle, depth = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.5)
    direction = np.array([np.cos(angle), np.sin(angle)])
    middle = np.array([low_x + high_x, low_y + high_y]) / 2
    if rng.random() < 0.5:
        centre = middle + direction * reach * (1.0 - depth)
        cv2.circle(hidden, tuple(int(c) for c in centre), max(1, int(0.5 * reach)), 1.0, cv2.FILLED)
        return hidden
    across = np.array([-direction[1], direction[0]]) * reach
    start = middle + direction * reach * (0.5 - depth)
    width = direction * reach  # to the mark's end: a sliver left beyond would widen its box and show nothing
    outline = np.array([start - across, start + across, start + across + width, start - across + width])
    cv2.fillConvexPoly(hidden, outline.astype(np.int32), 1.0)
    return hidden


def finished(photo: NDArray[np.float32], rng: np.random.Generator, settings: LogoCompose) -> NDArray[np.uint8]:
    """The whole picture as a camera gives it: exposure, sometimes shake, grain."""
    gain, offset = rng.uniform(0.8, 1.15), rng.uniform(-0.06, 0.06)
    photo = photo * np.float32(gain) + np.float32(offset)
    if rng.random() < settings.shaken_share:
        photo = np.asarray(cv2.GaussianBlur(photo, (0, 0), rng.uniform(0.4, settings.max_blur_px)), dtype=np.float32)
    grain = rng.normal(0, rng.uniform(0, settings.max_grain), photo.shape).astype(np.float32)
    levels: NDArray[np.uint8] = (np.clip(photo + grain, 0, 1) * 255).round().astype(np.uint8)
    return levels


def distractor(rng: np.random.Generator) -> Mark:
    """Draw a mark without a brand: a word, or a few shapes on top of each other, in one to three colours."""
    colours = [tuple(int(c) for c in rng.integers(0, 256, 3)) for _ in range(3)]
    picture = Image.new("RGBA", (_SIDE_PX, _SIDE_PX))
    pen = ImageDraw.Draw(picture)
    if rng.random() < 0.4:
        word = "".join(rng.choice(list(_LETTERS), rng.integers(1, 7)))
        pen.text((_SIDE_PX / 2, _SIDE_PX / 2), word, colours[0], ImageFont.load_default(_SIDE_PX / (0.8 * len(word) + 0.6)), "mm")
    else:
        for number in range(rng.integers(1, 4)):
            colour, kind = colours[number], rng.integers(5)
            size = rng.uniform(0.25, 0.5) * _SIDE_PX
            x, y = rng.uniform(0.3, 0.7, 2) * _SIDE_PX
            frame = (x - size, y - size * rng.uniform(0.4, 1.0), x + size, y + size)
            if kind == 0:  # a disc
                pen.ellipse(frame, fill=colour)
            elif kind == 1:  # a ring
                pen.ellipse(frame, outline=colour, width=int(rng.integers(8, 30)))
            elif kind == 2:  # a bar
                pen.rounded_rectangle(frame, radius=float(rng.uniform(0, 20)), fill=colour)
            else:  # a polygon or a star
                num_corners = int(rng.integers(3, 9))
                if kind == 3:
                    turns = np.sort(rng.uniform(0, 2 * np.pi, num_corners))
                    radii = np.full(len(turns), size)
                else:
                    turns = np.linspace(0, 2 * np.pi, 2 * num_corners, endpoint=False)
                    radii = size * np.where(np.arange(len(turns)) % 2, 0.45, 1.0)
                x_of, y_of = cv2.polarToCart(radii, turns)
                pen.polygon([(x + float(dx), y + float(dy)) for dx, dy in zip(x_of.ravel(), y_of.ravel(), strict=True)], fill=colour)
    seen = picture.getbbox()
    return Mark("", np.asarray(picture.crop(seen) if seen else picture), one_colour=False)
