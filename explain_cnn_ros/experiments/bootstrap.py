"""Confidence intervals of means over windows. Windows of one photo resemble each other, so photos are resampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

#: Number of resamplings.
RESAMPLINGS = 2000


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % confidence interval.

    Attributes:
        value: The value, for instance a mean.
        low: Lower end of the interval.
        high: Upper end of the interval.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"


def mean(values: ArrayLike, photos: Sequence[str]) -> Estimate:
    """Estimate the mean of values; see `ratio`.

    Args:
        values: A value for each window, [N].
        photos: The photo of each window, N of them.
    """
    return ratio(values, np.ones(len(photos)), photos)


def ratio(above: ArrayLike, below: ArrayLike, photos: Sequence[str]) -> Estimate:
    """Estimate the ratio of two sums.

    The interval is a percentile bootstrap over photos (Efron 1979). Its random numbers are the same for each call.

    Args:
        above: A value for each window, whose sum is the numerator, [N].
        below: A value for each window, whose sum is the denominator, [N].
        photos: The photo of each window, N of them. Windows of one photo are drawn together.
    """
    groups = {photo: i for i, photo in enumerate(dict.fromkeys(photos))}
    index = np.array([groups[photo] for photo in photos], np.intp)
    sums = [np.bincount(index, np.asarray(values, np.float64), len(groups)) for values in (above, below)]
    drawn = np.random.default_rng(0).integers(0, len(groups), (RESAMPLINGS, len(groups)))
    with np.errstate(invalid="ignore", divide="ignore"):
        low, high = np.percentile(sums[0][drawn].sum(1) / sums[1][drawn].sum(1), (2.5, 97.5))
        return Estimate(float(sums[0].sum() / sums[1].sum()), float(low), float(high))
