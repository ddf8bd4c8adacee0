"""How much two boxes have in common."""

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

MIN_OVERLAP: Final = 0.5  # from which two boxes are of one mark. Source: Everingham et al. (2010), section 4.2


def overlaps(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """Intersection over union: area that two boxes share, over the area that they cover together; 0 to 1.

    Source: Jaccard index; Everingham et al. (2010), The Pascal Visual Object Classes Challenge, section 4.4.

    Args:
        first, second: boxes x1 y1 x2 y2 with x1 < x2 and y1 < y2, (N, 4) and (M, 4); N or M may be 0.

    Returns:
        float64 (N, M).
    """
    ones, others = (np.asarray(boxes, np.float64).reshape(-1, 4) for boxes in (first, second))
    corner = np.maximum(ones[:, None, :2], others[None, :, :2])
    opposite = np.minimum(ones[:, None, 2:], others[None, :, 2:])
    common = np.prod((opposite - corner).clip(0), axis=2)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (ones, others)]
    return np.asarray(common / np.maximum(areas[0][:, None] + areas[1][None] - common, 1e-9), np.float64)
