"""Patches: the boxes of what a deconvnet reconstructs, in the window and in the frame."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from explain_cnn_ros.regions import Region


@dataclass(frozen=True)
class Patch:
    """A box in pixels: columns x to x + width - 1, rows y to y + height - 1."""

    x: int
    y: int
    width: int
    height: int


def bounding_boxes(reconstructions: Tensor, share: float) -> list[Patch | None]:
    """The box of each reconstruction's pixels above a share of its maximum, None where there is nothing.

    Args:
        reconstructions: [K, 3, H, W]; a pixel counts by its largest absolute colour value.
        share: in [0, 1); 0 gives the nonzero extent, which is nearly always the whole receptive field.
    """
    if not len(reconstructions):
        return []
    strength = reconstructions.abs().amax(1)
    above = strength > share * strength.amax((1, 2), keepdim=True)
    boxes: list[Patch | None] = []
    for rows, columns in zip(above.any(2).cpu(), above.any(1).cpu(), strict=True):
        y, x = rows.nonzero().flatten(), columns.nonzero().flatten()
        if len(y) == 0:
            boxes.append(None)
            continue
        left, top = int(x[0]), int(y[0])
        boxes.append(Patch(left, top, int(x[-1]) - left + 1, int(y[-1]) - top + 1))
    return boxes


def to_frame(patch: Patch, window: tuple[int, int], region: Region, frame: tuple[int, int]) -> Patch | None:
    """Map a patch of the window into the frame: rounded outwards, cut at the frame's border.

    Args:
        window, frame: (width, height) in pixels.
        region: where in the frame the window was.

    Returns:
        None for a patch that lies outside of the frame altogether.
    """
    scale_x, scale_y = region.width / window[0], region.height / window[1]
    left = max(0, math.floor(region.x + patch.x * scale_x))
    top = max(0, math.floor(region.y + patch.y * scale_y))
    right = min(frame[0], math.ceil(region.x + (patch.x + patch.width) * scale_x))
    bottom = min(frame[1], math.ceil(region.y + (patch.y + patch.height) * scale_y))
    if right <= left or bottom <= top:
        return None
    return Patch(left, top, right - left, bottom - top)
