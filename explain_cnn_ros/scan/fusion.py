"""Fusion of windows that agree on a person: mean shift over place and size (Dalal 2006, chapter 5)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

#: Widths of the kernel: horizontally and vertically as shares of the window's height, and of the logarithm of the size.
#: Dalal's are 1/16, 1/8 and log 1.3. Ours are smaller, because windows that were moved onto their persons agree better.
WIDTHS = (1 / 20, 1 / 12, math.log(1.22))

#: Number of shifts; most modes have converged by then.
SHIFTS = 5


def fuse(
    places: NDArray[np.float64], weights: NDArray[np.float64], starts: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shift windows to the weighted mean of the windows around them, repeatedly.

    Args:
        places: Centre x, centre y and logarithm of the height of the windows, [M, 3].
        weights: Weight of each window, [M].
        starts: The windows that are shifted, in the same form, [S, 3].

    Returns:
        The modes that the shifts end at, [S, 3]; and the support of each mode, [S]: the sum of the weights around it,
        multiplied by the kernel.
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
    """Weight of each window for each mode, [S, M]: a Gaussian whose width is proportional to the mode's size."""
    height = np.exp(modes[:, 2])
    widths = np.stack([WIDTHS[0] * height, WIDTHS[1] * height, np.full_like(height, WIDTHS[2])], axis=1)
    distance = (places[None] - modes[:, None]) / widths[:, None]
    return weights * np.exp(-0.5 * np.square(distance).sum(2))
