"""Measures of how well patches match the person. The paper's measure saturates; the other two do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: A box (x, y, width, height) in pixels.
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Localization:
    """Means over patches.

    Attributes:
        touching: Share of the patches that contain pixels of the person's box: the paper's patch localization.
        inside: Share of a patch's area that lies in the box.
        pointing: Share of the patches whose middle lies in the box: the pointing game (Zhang et al. 2016).
        patches: Number of patches.
    """

    touching: float
    inside: float
    pointing: float
    patches: int


def localization(patches: Sequence[Box], persons: Sequence[Box]) -> Localization:
    """Compare patches with the box of each patch's person.

    Args:
        patches: Boxes of the patches.
        persons: Boxes of the persons, one for each patch.

    Returns:
        The means over patches; NaN without patches.
    """
    if not patches:
        return Localization(float("nan"), float("nan"), float("nan"), 0)
    boxes = np.array(patches, np.float64)
    x, y, width, height = np.array(persons, np.float64).T
    left, top = np.maximum(boxes[:, 0], x), np.maximum(boxes[:, 1], y)
    right = np.minimum(boxes[:, 0] + boxes[:, 2], x + width)
    bottom = np.minimum(boxes[:, 1] + boxes[:, 3], y + height)
    shared = np.clip(right - left, 0, None) * np.clip(bottom - top, 0, None)
    middle_x, middle_y = boxes[:, 0] + boxes[:, 2] / 2, boxes[:, 1] + boxes[:, 3] / 2
    within = (middle_x >= x) & (middle_x < x + width) & (middle_y >= y) & (middle_y < y + height)
    area = boxes[:, 2] * boxes[:, 3]
    return Localization(float((shared > 0).mean()), float((shared / area).mean()), float(within.mean()), len(boxes))
