"""Laying one mark into a photo: its plate, its light, and what stands in front of it."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from upheld.common.params.logos import LogoCompose
from upheld.feature_store.logos.composites import appearance
from upheld.feature_store.logos.composites.geometry import Mask, blur, box_of
from upheld.feature_store.logos.sources.source import Corners


@dataclass(frozen=True)
class Pasted:
    """What pasting one mark changed: the photo, the mark's mask on it and the frame that it takes up."""

    photo: NDArray[np.float32]
    box: Corners
    visible: float
    frame: Corners


def blend(
    photo: NDArray[np.float32],
    mark: NDArray[np.float32],
    plate: NDArray[np.float32],
    hidden: Mask,
    corner: tuple[int, int],
    rng: np.random.Generator,
    settings: LogoCompose,
) -> Pasted | None:
    """Lay plate and mark into a copy of the photo, behind what hides them.

    Args:
        photo: RGB, (height, width, 3) in [0, 1].
        mark, plate: premultiplied, (h, w, 4) in [0, 1], as they lie on the photo.
        hidden: what stands in front, (h, w), 0 or 1.
        corner: left and top of mark, plate and hidden on the photo, pixels; may be negative.
        rng: random stream.
        settings: section `logo_compose`.

    Returns:
        the result, or None where too little of the mark would be seen.
    """
    sigma = rng.uniform(0, settings.max_blur_px) * min(1.0, max(mark.shape) / 200)
    mark, plate = blur(mark, sigma), blur(plate, sigma)
    (left, top), (height, width) = corner, mark.shape[:2]
    rows, columns = slice(max(top, 0), max(top + height, 0)), slice(max(left, 0), max(left + width, 0))
    ground = photo[rows, columns]
    inner = (
        slice(rows.start - top, rows.start - top + ground.shape[0]),
        slice(columns.start - left, columns.start - left + ground.shape[1]),
    )
    seen = mark[..., 3] * (1 - hidden)
    share = float(seen[inner].sum() / max(mark[..., 3].sum(), 1e-6))
    box = box_of(seen[inner], columns.start, rows.start)
    if share < settings.min_visible_share or box is None or min(box[2] - box[0], box[3] - box[1]) < settings.min_side_px:
        return None
    shade, opacity = appearance.light((height, width), rng)[inner], np.float32(rng.uniform(0.88, 1.0))
    under = ground
    with_plate = rng.random() < settings.plate_share
    if with_plate or appearance.contrast(mark[inner], ground) < settings.min_contrast:
        under = under * (1 - plate[inner][..., 3:]) + plate[inner][..., :3] * shade
    laid = under * (1 - mark[inner][..., 3:] * opacity) + mark[inner][..., :3] * opacity * shade
    before = hidden[inner][..., None]
    # what stands in front has the colours of another piece of the photo, out of focus: no mark can be made out on it
    front = cv2.GaussianBlur(photo[::-1, ::-1][rows, columns], (0, 0), max(3.0, 0.15 * max(ground.shape[:2])))
    result = photo.copy()
    result[rows, columns] = laid * (1 - before) + front * before
    frame = (float(columns.start), float(rows.start), float(columns.start + ground.shape[1]), float(rows.start + ground.shape[0]))
    return Pasted(result, box, share, frame)
