"""Pictures varied at random while a network trains on them."""

import numpy as np
from PIL import Image, ImageEnhance

from upheld.feature_store.decoding.images import Picture

MIN_CROP_SHARE = 0.7  # of each side: logos and drawn text sit at borders, harder crops would cut what the label is about
JITTER = 0.2  # relative change of brightness and contrast


def augmented(picture: Picture, random: np.random.Generator) -> Picture:
    """A random crop of a square picture at its old size, its brightness and contrast changed a little.

    Pictures are not mirrored: drawn text and logos do not survive it.
    """
    size = picture.shape[0]
    side = size * random.uniform(MIN_CROP_SHARE, 1)
    left, top = random.uniform(0, size - side, 2)
    image = Image.fromarray(picture).resize((size, size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast):
        image = enhance(image).enhance(1 + random.uniform(-JITTER, JITTER))
    return np.asarray(image, np.uint8)
