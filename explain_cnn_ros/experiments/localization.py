"""Measures of how well patches match the person. The paper's measure saturates; the other two do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from explain_cnn_ros.experiments import bootstrap
from explain_cnn_ros.experiments.bootstrap import NOT_MEASURED, Estimate

#: A box (x, y, width, height) in pixels.
Box = tuple[float, float, float, float]


class Comparison(NamedTuple):
    """A comparison of N patches with the boxes of their persons.

    Attributes:
        touching: Whether each patch contains a pixel of the person's box, bool [N].
        inside: Share of each patch's area that lies in the box, float64 [N].
        pointing: Whether the middle of each patch lies in the box, bool [N].
    """

    touching: NDArray[np.bool_]
    inside: NDArray[np.float64]
    pointing: NDArray[np.bool_]


@dataclass(frozen=True)
class Localization:
    """Means over patches with confidence intervals over photos.

    Attributes:
        touching: Share of the patches that contain pixels of the person's box: the paper's patch localization.
        inside: Share of a patch's area that lies in the box.
        pointing: Share of the patches whose middle lies in the box: the pointing game (Zhang et al. 2016).
        patches: Number of patches.
    """

    touching: Estimate
    inside: Estimate
    pointing: Estimate
    patches: int


def compare(patches: Sequence[Box], persons: Sequence[Box]) -> Comparison:
    """Compare patches with the box of each patch's person.

    Args:
        patches: Boxes of the patches, N of them.
        persons: Boxes of the persons, one for each patch.
    """
    boxes = np.array(patches, np.float64).reshape(-1, 4)
    x, y, width, height = np.array(persons, np.float64).reshape(-1, 4).T
    left, top = np.maximum(boxes[:, 0], x), np.maximum(boxes[:, 1], y)
    right = np.minimum(boxes[:, 0] + boxes[:, 2], x + width)
    bottom = np.minimum(boxes[:, 1] + boxes[:, 3], y + height)
    shared = np.clip(right - left, 0, None) * np.clip(bottom - top, 0, None)
    middle_x, middle_y = boxes[:, 0] + boxes[:, 2] / 2, boxes[:, 1] + boxes[:, 3] / 2
    within = (middle_x >= x) & (middle_x < x + width) & (middle_y >= y) & (middle_y < y + height)
    return Comparison(shared > 0, shared / (boxes[:, 2] * boxes[:, 3]), within)


def localization(patches: Sequence[Box], persons: Sequence[Box], photos: Sequence[str]) -> Localization:
    """Compute the measures of patches.

    Args:
        patches: Boxes of the patches, N of them.
        persons: Boxes of the persons, one for each patch.
        photos: The photo of each patch, N of them.

    Returns:
        The measures; not measured without patches.
    """
    if not patches:
        return Localization(NOT_MEASURED, NOT_MEASURED, NOT_MEASURED, 0)
    touching, inside, pointing = (bootstrap.mean(values, photos) for values in compare(patches, persons))
    return Localization(touching, inside, pointing, len(patches))
