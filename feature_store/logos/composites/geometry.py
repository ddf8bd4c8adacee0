"""The geometry of pasting: where a mark's corners go, and what its pixels become there."""

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from upheld.feature_store.logos.dataset.boxes import Corners

Pixels = NDArray[np.float32]  # (height, width, 4): colour times alpha, and alpha, each in [0, 1]
Mask = NDArray[np.float32]  # (height, width) in [0, 1]
SEEN: Final = 0.3  # share of a pixel that a mark must cover to be in its box
_MARGIN_PX: Final = 8  # around a pasted mark, for its blur


def place(
    rng: np.random.Generator,
    size: tuple[int, int],
    side_px: float,
    photo: tuple[int, int],
    rotation_deg: float,
    perspective: float,
    beyond: float,
) -> NDArray[np.float32]:
    """Draw the four corners of a mark on a photo.

    Args:
        size: width and height of the mark, any unit.
        side_px: its longer side on the photo.
        photo: width and height in pixels.
        rotation_deg: standard deviation of its turn, which is at most twice that.
        perspective: how far each corner may move, in sides; below 0.5 the corners stay convex.
        beyond: share of the mark's width and height by which its middle may come nearer to the border than half of it.

    Returns:
        float32 (4, 2): upper left, upper right, lower right, lower left, in pixels.
    """
    sides = np.array(size, dtype=float) * side_px / max(size)
    corners = np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)]) + rng.uniform(-perspective, perspective, (4, 2))
    angle = np.deg2rad(np.clip(rng.normal(0, rotation_deg), -2 * rotation_deg, 2 * rotation_deg))
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    corners = corners * sides @ turn
    low, high = corners.min(axis=0), corners.max(axis=0)
    reach = beyond * (high - low)
    # where the photo is too small for the mark, it lies around the middle
    first, last = -low - reach, np.array(photo) - high + reach
    middle = np.where(first < last, rng.uniform(np.minimum(first, last), np.maximum(first, last)), np.array(photo) / 2)
    placed: NDArray[np.float32] = (corners + middle).astype(np.float32)
    return placed


def warp(layers: list[Pixels], corners: NDArray[np.float32]) -> tuple[list[Pixels], tuple[int, int]]:
    """Lay pictures of one size onto four corners.

    Args:
        layers: pictures, each (h, w, 4).
        corners: where their corners go, (4, 2) pixels of the photo.

    Returns:
        the pictures as they lie there, cut to a frame around them, and the frame's left and top in pixels of the photo (may be negative).
    """
    left, top = (np.floor(corners.min(axis=0)).astype(int) - _MARGIN_PX).tolist()
    width, height = (np.ceil(corners.max(axis=0)).astype(int) + _MARGIN_PX - (left, top)).tolist()
    h, w = layers[0].shape[:2]
    # first to about the size it will have: a warp alone would skip pixels of what shrinks
    scale = min(1.0, max(np.linalg.norm(corners[1] - corners[0]) / w, np.linalg.norm(corners[3] - corners[0]) / h))
    size = (max(2, round(w * scale)), max(2, round(h * scale)))
    outline = np.array([(0, 0), (size[0], 0), size, (0, size[1])], dtype=np.float32) - np.float32(0.5)
    matrix = cv2.getPerspectiveTransform(outline, corners - np.array([left, top], dtype=np.float32) - np.float32(0.5))
    small = [cv2.resize(layer, size, interpolation=cv2.INTER_AREA) for layer in layers]
    return [cv2.warpPerspective(layer, matrix, (width, height), flags=cv2.INTER_LINEAR) for layer in small], (left, top)


def blur(picture: Pixels, sigma_px: float) -> Pixels:
    """The picture out of focus; under 0.3 pixels as it is."""
    return picture if sigma_px < 0.3 else np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma_px), dtype=np.float32)


def box_of(mask: Mask, left: int, top: int) -> Corners | None:
    """Box on the photo around the pixels of which a mark covers at least SEEN; None if there is none.

    Args:
        mask: share of each pixel that the mark covers.
        left, top: where the mask's corner lies on the photo, pixels.
    """
    rows, columns = np.flatnonzero((mask >= SEEN).any(axis=1)), np.flatnonzero((mask >= SEEN).any(axis=0))
    if not len(rows):
        return None
    return float(left + columns[0]), float(top + rows[0]), float(left + columns[-1] + 1), float(top + rows[-1] + 1)
