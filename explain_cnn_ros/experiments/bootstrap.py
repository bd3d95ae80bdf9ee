"""How sure a mean over windows is, when windows of one photo resemble each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

#: Resamplings of the photos.
RESAMPLINGS = 2000


@dataclass(frozen=True)
class Mean:
    """A mean, and its 95 % confidence interval by the bootstrap over photos (percentiles)."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"


def mean(values: ArrayLike, photos: Sequence[str]) -> Mean:
    """The mean of values [N], those of one photo drawn together; the same each time."""
    return ratio(values, np.ones(len(photos)), photos)


def ratio(above: ArrayLike, below: ArrayLike, photos: Sequence[str]) -> Mean:
    """The ratio of the sums of values [N] and [N], those of one photo drawn together; the same each time."""
    groups = {photo: i for i, photo in enumerate(dict.fromkeys(photos))}
    index = np.array([groups[photo] for photo in photos], np.intp)
    sums = [np.bincount(index, np.asarray(values, np.float64), len(groups)) for values in (above, below)]
    drawn = np.random.default_rng(0).integers(0, len(groups), (RESAMPLINGS, len(groups)))
    with np.errstate(invalid="ignore", divide="ignore"):
        low, high = np.percentile(sums[0][drawn].sum(1) / sums[1][drawn].sum(1), (2.5, 97.5))
        return Mean(float(sums[0].sum() / sums[1].sum()), float(low), float(high))
