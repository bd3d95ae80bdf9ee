"""Windows that agree on a person become one: mean shift over place and size (Dalal 2006, chapter 5)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

#: Widths of the kernel: shares of the window's height across and down, and the logarithm of the size. Dalal's are
#: 1/16, 1/8 and log 1.3; windows that were moved onto their persons agree more closely.
WIDTHS = (1 / 20, 1 / 12, math.log(1.22))

#: Shifts of each mode; most have come to rest by then.
SHIFTS = 5


def fuse(
    places: NDArray[np.float64], weights: NDArray[np.float64], starts: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shift windows to where the weighted windows around them lie on average.

    Args:
        places: centre x, centre y, and logarithm of the height of windows, [M, 3].
        weights: how much each of them counts, [M].
        starts: windows that are shifted, likewise [S, 3].

    Returns:
        Where they end, [S, 3]; and their support, [S]: the weights around them, those of the same place in full.
    """
    modes = starts.astype(np.float64)
    for _ in range(SHIFTS):
        near = _kernel(places, weights, modes)
        total = near.sum(1, keepdims=True)
        modes = np.where(total > 0, near @ places / np.maximum(total, np.finfo(np.float64).tiny), modes)
    return modes, _kernel(places, weights, modes).sum(1)


def _kernel(
    places: NDArray[np.float64], weights: NDArray[np.float64], modes: NDArray[np.float64]
) -> NDArray[np.float64]:
    """What each window counts for each mode, [S, M]: a Gaussian that is as wide as the mode is large."""
    height = np.exp(modes[:, 2])
    widths = np.stack([WIDTHS[0] * height, WIDTHS[1] * height, np.full_like(height, WIDTHS[2])], axis=1)
    distance = (places[None] - modes[:, None]) / widths[:, None]
    return weights * np.exp(-0.5 * np.square(distance).sum(2))
