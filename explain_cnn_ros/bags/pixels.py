"""Conversion of pixels to 8 bits and to colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[Any]

#: OpenCV names a Bayer pattern by the second and third pixel of its second row, ROS by its first row.
_BAYER = {"rggb": "BG", "bggr": "RG", "gbrg": "GR", "grbg": "GB"}

#: Share of the pixels at each end of the range, in percent, that may be wrong measurements. They are wrong if the range
#: without them is smaller by this factor: a single one would make the rest of the image black.
_OUTLIERS, _FACTOR = 0.1, 4.0

#: Number of pixels that are stretched at a time, so that large images take little memory.
_PART = 2**20


def grey_to_rgb(pixels: Pixels) -> Pixels:
    """Return grey pixels, [H, W] or [H, W, 1], as [H, W, 3]."""
    return cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)


def to_8_bits(pixels: Pixels) -> Pixels:
    """Scale 16-bit intensities to 8 bits; 8-bit ones stay as they are."""
    # The products are rounded to the nearest integer, and none lies between two: 257 is odd.
    return pixels if pixels.dtype == np.uint8 else cv2.convertScaleAbs(pixels, alpha=1 / 257)


def stretch(pixels: Pixels) -> Pixels:
    """Scale the range of the finite values to 0 to 255. Values that are not finite become 0.

    If the 0.1 % smallest and largest values make the range more than four times as large, they are clipped. In images
    of fewer than 1,000 pixels, none are.
    """
    if pixels.dtype == np.uint16:
        # There are few different values, so each of them is scaled once.
        levels = np.arange(65536, dtype=np.uint16)
        counts = np.bincount(pixels.ravel(), minlength=len(levels))
        places = np.searchsorted(counts.cumsum(), [index + 1 for index in _ends(pixels.size)])
        return _scale(levels, *_range(levels[places].tolist()))[pixels]
    flat = pixels.reshape(-1)
    parts = [flat[i : i + _PART] for i in range(0, flat.size, _PART)]
    ranges = [(values.min(), values.max()) for part in parts if (values := part[np.isfinite(part)]).size]
    if not ranges:
        return np.zeros(pixels.shape, np.uint8)
    low, high = float(min(bottom for bottom, _ in ranges)), float(max(top for _, top in ranges))
    sample = flat[:: -(-flat.size // _PART)]
    sample = sample[np.isfinite(sample)]
    if sample.size:
        _, first, last, _ = _ends(sample.size)
        inner = np.partition(sample, (first, last))
        low, high = _range([low, float(inner[first]), float(inner[last]), high])
    return np.concatenate([_scale(part, low, high) for part in parts]).reshape(pixels.shape)


def _ends(count: int) -> tuple[int, int, int, int]:
    """Return the places, among sorted values, of the smallest and largest one with and without the outliers."""
    outliers = _OUTLIERS / 100 * (count - 1)
    return 0, math.floor(outliers), math.ceil(count - 1 - outliers), count - 1


def _range(ends: Sequence[float]) -> tuple[float, float]:
    """Return the range that is stretched, by the values at the places of `_ends`."""
    low, inner_low, inner_high, high = ends
    return (inner_low, inner_high) if high - low > _FACTOR * (inner_high - inner_low) else (low, high)


def _scale(values: Pixels, low: float, high: float) -> Pixels:
    """Scale a range to 0 to 255; values outside of the range are clipped, and those that are not finite become 0."""
    levels = (np.where(np.isfinite(values), values, low).astype(np.float64) - low) * (255.0 / max(high - low, 1e-12))
    return np.round(np.clip(levels, 0, 255)).astype(np.uint8)


def demosaic(mosaic: Pixels, order: str) -> Pixels:
    """Return the colours of a Bayer mosaic.

    Args:
        mosaic: uint8 or uint16 [H, W] or [H, W, 1].
        order: The colours of the first row and of the second row, for instance "rggb".

    Returns:
        uint8 [H, W, 3] RGB.
    """
    return cv2.cvtColor(to_8_bits(mosaic), getattr(cv2, f"COLOR_Bayer{_BAYER[order]}2RGB"))
