"""One composite: a photo with marks pasted onto it, and their exact boxes."""

import io
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from upheld.common.params.logos import LogoCompose
from upheld.feature_store.logos.composites import appearance
from upheld.feature_store.logos.composites.geometry import Mask, blur, box_of, place, warp
from upheld.feature_store.logos.composites.marks import Mark
from upheld.feature_store.logos.dataset.boxes import Corners

_TRIES = 12  # places looked at for a mark before the composite goes without it


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

    Returns:
        the result, or None where too little of the mark would be seen.
    """
    sigma = rng.uniform(0, settings.max_blur_px) * min(1.0, max(mark.shape) / 200)
    mark, plate = blur(mark, sigma), blur(plate, sigma)
    (left, top), (height, width) = corner, mark.shape[:2]
    rows, columns = slice(max(top, 0), max(top + height, 0)), slice(max(left, 0), max(left + width, 0))
    under = photo[rows, columns]
    inner = (
        slice(rows.start - top, rows.start - top + under.shape[0]),
        slice(columns.start - left, columns.start - left + under.shape[1]),
    )
    seen = mark[..., 3] * (1 - hidden)
    share = float(seen[inner].sum() / max(mark[..., 3].sum(), 1e-6))
    box = box_of(seen[inner], columns.start, rows.start)
    if share < settings.min_visible_share or box is None or min(box[2] - box[0], box[3] - box[1]) < settings.min_side_px:
        return None
    shade, opacity = appearance.light((height, width), rng)[inner], np.float32(rng.uniform(0.88, 1.0))
    below, with_plate = under, rng.random() < settings.plate_share
    if with_plate or appearance.contrast(mark[inner], under) < settings.min_contrast:
        below = under * (1 - plate[inner][..., 3:]) + plate[inner][..., :3] * shade
    laid = below * (1 - mark[inner][..., 3:] * opacity) + mark[inner][..., :3] * opacity * shade
    before = hidden[inner][..., None]
    # what stands in front has the colours of another piece of the photo, out of focus: no mark can be made out on it
    front = cv2.GaussianBlur(photo[::-1, ::-1][rows, columns], (0, 0), max(3.0, 0.15 * max(under.shape[:2])))
    result = photo.copy()
    result[rows, columns] = laid * (1 - before) + front * before
    frame = (float(columns.start), float(rows.start), float(columns.start + under.shape[1]), float(rows.start + under.shape[0]))
    return Pasted(result, box, share, frame)


@dataclass(frozen=True)
class Composite:
    """A JPEG file, its size in pixels, and the marks on it; `visible`: share of each mark that neither border nor occluder hides."""

    jpeg: bytes
    width: int
    height: int
    brands: tuple[str, ...]
    boxes: tuple[Corners, ...]
    visible: tuple[float, ...]


def compose(
    photo: Image.Image, kept: list[tuple[str, Corners]], marks: list[Mark], rng: np.random.Generator, settings: LogoCompose
) -> Composite:
    """Make one composite.

    Args:
        photo: RGB.
        kept: brands and boxes that are on the photo already; nothing is pasted over them.
        marks: to be pasted, in this order; those for which no free place is found are left out.
        rng: random stream: the same stream, photo and marks give the same bytes.

    Returns:
        the composite. Every box lies inside the photo, has sides of at least `min_side_px`, and at least `min_visible_share` of its mark
        is seen. Shapes that are no marks are pasted too, without a box.
    """
    scale = min(1.0, settings.max_side_px / max(photo.size))
    size = (max(1, round(photo.width * scale)), max(1, round(photo.height * scale)))
    x_scale, y_scale = size[0] / photo.width, size[1] / photo.height
    pixels = np.asarray(photo.resize(size, Image.Resampling.BICUBIC) if scale < 1 else photo, dtype=np.float32) / np.float32(255)
    taken = [(x1 * x_scale, y1 * y_scale, x2 * x_scale, y2 * y_scale) for _, (x1, y1, x2, y2) in kept]
    brands, boxes, visible = [brand for brand, _ in kept], list(taken), [1.0] * len(kept)
    strange = [appearance.distractor(rng) for _ in range(int(rng.integers(1, 3)) if rng.random() < settings.distractor_share else 0)]
    for mark in [*marks, *strange]:
        pasted = _paste(pixels, mark, taken, rng, settings)
        if pasted is None:
            continue
        pixels = pasted.photo
        taken.append(pasted.frame)
        if mark.brand:
            brands.append(mark.brand)
            boxes.append(pasted.box)
            visible.append(pasted.visible)
    image = Image.fromarray(appearance.finished(pixels, rng, settings))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=int(rng.integers(settings.jpeg_quality[0], settings.jpeg_quality[1] + 1)))
    return Composite(file.getvalue(), image.width, image.height, tuple(brands), tuple(boxes), tuple(visible))


def _paste(photo: NDArray[np.float32], mark: Mark, taken: list[Corners], rng: np.random.Generator, settings: LogoCompose) -> Pasted | None:
    """Paste one mark where nothing is yet, or None if no such place was found where enough of it is seen."""
    colours, alpha = appearance.coloured(mark, rng, settings.recolour_share)
    whole = appearance.padded(colours, alpha)
    below = appearance.plate(whole, rng)
    low, high = (np.log(share) for share in settings.mark_share)
    for _ in range(_TRIES):
        # sizes are as likely in each doubling, and some marks reach over the border
        side = min(photo.shape[:2]) * float(np.exp(rng.uniform(low, high))) * (1 + 2 * appearance.PAD)
        beyond = 0.4 if rng.random() < settings.cropped_share else 0.0
        size, room = (whole.shape[1], whole.shape[0]), (photo.shape[1], photo.shape[0])
        corners = place(rng, size, side, room, settings.rotation_deg, settings.perspective, beyond)
        (pixels, plate), (left, top) = warp([whole, below], corners)
        frame = (float(left), float(top), float(left + pixels.shape[1]), float(top + pixels.shape[0]))
        if any(frame[0] < x2 and x1 < frame[2] and frame[1] < y2 and y1 < frame[3] for x1, y1, x2, y2 in taken):
            continue
        hidden = appearance.occluder(pixels[..., 3], rng) if rng.random() < settings.occluded_share else np.zeros_like(pixels[..., 3])
        pasted = blend(photo, pixels, plate, hidden, (left, top), rng, settings)
        if pasted is not None:
            return pasted
    return None
