"""Confidence intervals of means over windows. Windows of one photo resemble each other, so photos are resampled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: Number of resamplings.
RESAMPLINGS = 2000

#: Number of random choices of signs in a permutation test.
PERMUTATIONS = 20_000


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
        if math.isnan(self.value):
            return "—"
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"

    @property
    def percent(self) -> str:
        """The value and its interval in percent."""
        if math.isnan(self.value):
            return "—"
        return f"{100 * self.value:.0f} % ({100 * self.low:.0f} to {100 * self.high:.0f})"


#: The estimate of a quantity that was not measured.
NOT_MEASURED = Estimate(math.nan, math.nan, math.nan)


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
    sums = [_by_photo(values, photos) for values in (above, below)]
    photo_count = len(sums[0])
    drawn = np.random.default_rng(0).integers(0, photo_count, (RESAMPLINGS, photo_count))
    with np.errstate(invalid="ignore", divide="ignore"):
        low, high = np.percentile(sums[0][drawn].sum(1) / sums[1][drawn].sum(1), (2.5, 97.5))
        return Estimate(float(sums[0].sum() / sums[1].sum()), float(low), float(high))


def paired_p(differences: ArrayLike, photos: Sequence[str]) -> float:
    """Return the two-sided p-value of the hypothesis that paired differences are symmetric around zero.

    It is a permutation test: the signs of the differences are flipped at random, those of one photo together. Its
    random numbers are the same for each call.

    Args:
        differences: A difference for each window, [N].
        photos: The photo of each window, N of them.

    Returns:
        At least 1 / (PERMUTATIONS + 1).
    """
    sums = _by_photo(differences, photos)
    signs = np.random.default_rng(0).choice((-1.0, 1.0), (PERMUTATIONS, len(sums)))
    # Rounding must not make an equal sum smaller.
    as_large = np.abs(signs @ sums) >= abs(sums.sum()) * (1 - 1e-9)
    return float((as_large.sum() + 1) / (PERMUTATIONS + 1))


def _by_photo(values: ArrayLike, photos: Sequence[str]) -> NDArray[np.float64]:
    """Return the sum of the values of each photo."""
    groups = {photo: i for i, photo in enumerate(dict.fromkeys(photos))}
    index = np.array([groups[photo] for photo in photos], np.intp)
    return np.bincount(index, np.asarray(values, np.float64), len(groups)).astype(np.float64)
