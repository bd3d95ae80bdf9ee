"""How well patches meet the person: three measures, of which the last two do not saturate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Localization:
    """Means over patches.

    touching: share of the patches that contain pixels of the person's box: the paper's patch localization.
    inside: share of a patch's area that lies in the box.
    pointing: share of the patches whose middle lies in the box (Zhang et al. 2016, the pointing game).
    patches: how many there are.
    """

    touching: float
    inside: float
    pointing: float
    patches: int


def localization(patches: Sequence[Box], persons: Sequence[Box]) -> Localization:
    """Of patches (x, y, width, height) against the box of each one's person; NaN without patches."""
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
