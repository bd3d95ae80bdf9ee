"""Patches: the bounding boxes of reconstructions, in the window and in the frame."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from explain_cnn_ros.model.windows import Region


@dataclass(frozen=True)
class Patch:
    """A box of pixels: columns x to x + width - 1 and rows y to y + height - 1.

    Attributes:
        x: First column.
        y: First row.
        width: Number of columns.
        height: Number of rows.
    """

    x: int
    y: int
    width: int
    height: int


def bounding_boxes(reconstructions: Tensor, share: float) -> list[Patch | None]:
    """Compute the bounding box of each reconstruction's pixels above a share of its maximum.

    Args:
        reconstructions: Reconstructions [K, 3, H, W]. The strength of a pixel is its largest absolute colour value.
        share: Share of the strongest pixel, in [0, 1). With 0, the box holds all nonzero pixels, which is nearly always
            the whole receptive field.

    Returns:
        The K boxes; None for a reconstruction that is zero everywhere.
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
    """Map a patch from the window to the frame. It is rounded outwards and clipped to the frame.

    Args:
        patch: The patch, in pixels of the window.
        window: Size (width, height) of the window, in pixels.
        region: Region of the frame that the window shows.
        frame: Size (width, height) of the frame, in pixels.

    Returns:
        The patch in pixels of the frame; None if it lies entirely outside of the frame.
    """
    scale_x, scale_y = region.width / window[0], region.height / window[1]
    left = max(0, math.floor(region.x + patch.x * scale_x))
    top = max(0, math.floor(region.y + patch.y * scale_y))
    right = min(frame[0], math.ceil(region.x + (patch.x + patch.width) * scale_x))
    bottom = min(frame[1], math.ceil(region.y + (patch.y + patch.height) * scale_y))
    if right <= left or bottom <= top:
        return None
    return Patch(left, top, right - left, bottom - top)
