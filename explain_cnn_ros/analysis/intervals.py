"""Confidence intervals of shares and of their ratios."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

#: Normal quantile of 95 % intervals.
Z95 = 1.96

#: Minimum number of recordings for a bootstrap over recordings, and number of its draws.
RECORDINGS_MIN, DRAWS = 5, 2000


def lift(a: int, of_a: int, b: int, of_b: int) -> tuple[float, float, float]:
    """Compute the ratio of the shares a / of_a and b / of_b with its 95 % confidence interval (Katz et al. 1978).

    Half a frame with the neuron and half a frame without it are added to both groups, so that the interval is finite
    even if the neuron is selected in no frame or in all.

    Args:
        a: Number of frames of the first group with the neuron.
        of_a: Number of frames of the first group.
        b: Number of frames of the second group with the neuron.
        of_b: Number of frames of the second group.

    Returns:
        The ratio, and the lower and the upper end of its interval.
    """
    ratio = (a + 0.5) / (of_a + 1) / ((b + 0.5) / (of_b + 1))
    deviation = math.sqrt(1 / (a + 0.5) - 1 / (of_a + 1) + 1 / (b + 0.5) - 1 / (of_b + 1))
    return ratio, ratio * math.exp(-Z95 * deviation), ratio * math.exp(Z95 * deviation)


def wilson(count: int, total: int) -> tuple[float, float]:
    """Compute the 95 % confidence interval of a share (Wilson 1927).

    Args:
        count: Number of frames of a kind.
        total: Number of all frames.

    Returns:
        The lower and the upper end; 0 and 1 without frames.
    """
    if total == 0:
        return 0.0, 1.0
    share, z = count / total, Z95**2 / total
    centre = (share + z / 2) / (1 + z)
    half = math.sqrt(share * (1 - share) * z + z**2 / 4) / (1 + z)
    # Rounding must not exclude a share of 0 or 1.
    return min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half))


def share_interval(counts: Sequence[tuple[int, int]], seed: int = 0) -> tuple[float, float]:
    """Compute the 95 % confidence interval of a share over recordings.

    The interval is Wilson's. Frames of one recording resemble each other, so with at least RECORDINGS_MIN recordings it
    also covers the interval of a bootstrap over recordings.

    Args:
        counts: Number of frames of a kind, and number of all frames, of each recording that has frames.
        seed: Seed of the bootstrap.

    Returns:
        The lower and the upper end; 0 and 1 without frames.
    """
    pairs = np.array([pair for pair in counts if pair[1]], np.int64).reshape(-1, 2)
    low, high = wilson(int(pairs[:, 0].sum()), int(pairs[:, 1].sum()))
    if len(pairs) >= RECORDINGS_MIN:
        drawn = np.random.default_rng(seed).integers(0, len(pairs), (DRAWS, len(pairs)))
        sums = pairs[drawn].sum(1)
        ends = np.percentile(sums[:, 0] / sums[:, 1], (2.5, 97.5))
        low, high = min(low, float(ends[0])), max(high, float(ends[1]))
    return low, high


def mean_interval(shares: Sequence[tuple[int, int]]) -> tuple[float, float]:
    """Compute the 95 % confidence interval of the mean of independent shares, from Wilson's (Zou & Donner 2008).

    Args:
        shares: Number of frames of a kind, and number of all frames, of each group; no group is empty.

    Returns:
        The lower and the upper end.
    """
    means, ends = [count / total for count, total in shares], [wilson(*pair) for pair in shares]
    mean = sum(means) / len(means)
    below = math.sqrt(sum((one - low) ** 2 for one, (low, _) in zip(means, ends, strict=True)))
    above = math.sqrt(sum((high - one) ** 2 for one, (_, high) in zip(means, ends, strict=True)))
    return mean - below / len(means), mean + above / len(means)


def mcnemar(better: int, worse: int) -> float:
    """Compute the p value of McNemar's exact test (1947): how probable a difference at least as large is by chance.

    Args:
        better: Number of windows whose decision becomes right.
        worse: Number of windows whose decision becomes wrong.

    Returns:
        The two-sided p value; 1 if no decision changes.
    """
    total = better + worse
    tail = ways = 1
    for k in range(min(better, worse)):
        ways = ways * (total - k) // (k + 1)
        tail += ways
    # The whole numbers are exact. They may be too large for a float, but their ratio is not.
    return min(1.0, 2 * tail / 2**total)
