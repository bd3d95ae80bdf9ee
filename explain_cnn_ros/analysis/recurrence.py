"""Neurons that keep turning up: how much more often in doubtful and wrong frames than in confident ones."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

#: Normal quantile of 95 % intervals.
Z95 = 1.96


@dataclass(frozen=True)
class Recurrence:
    """How often a metric selects a neuron.

    attention: in how many of `attention_frames`, which are wrong or doubtful.
    confident: in how many of `confident_frames`, which are neither.
    lift: ratio of the two shares, with its 95 % interval from low to high.
    """

    metric: str
    layer: int
    layer_name: str
    channel: int
    attention: int
    attention_frames: int
    confident: int
    confident_frames: int
    lift: float
    low: float
    high: float


def lift(a: int, of_a: int, b: int, of_b: int) -> tuple[float, float, float]:
    """Ratio of the shares a / of_a and b / of_b with its 95 % interval.

    The interval is that of Katz et al. 1978. Half a case with and half a case without are added to both sides first, so
    that it stays an interval where none or all of the frames have the neuron.
    """
    ratio = (a + 0.5) / (of_a + 1) / ((b + 0.5) / (of_b + 1))
    deviation = math.sqrt(1 / (a + 0.5) - 1 / (of_a + 1) + 1 / (b + 0.5) - 1 / (of_b + 1))
    return ratio, ratio * math.exp(-Z95 * deviation), ratio * math.exp(Z95 * deviation)


@dataclass
class Selections:
    """Counts how often each neuron is selected, by metric, in frames that need attention and in confident ones."""

    frames: Counter[bool] = field(default_factory=Counter)
    counts: Counter[tuple[str, int, int, bool]] = field(default_factory=Counter)
    names: dict[int, str] = field(default_factory=dict)

    def add(self, metric: str, layer: int, layer_name: str, channel: int, attention: bool) -> None:
        """A neuron was selected in a frame."""
        self.counts[metric, layer, channel, attention] += 1
        self.names[layer] = layer_name

    def recurring(self, metric: str, most: int) -> list[Recurrence]:
        """Neurons that a metric selects more often where attention is needed, surest first: by the interval's end."""
        found = []
        for layer, channel in {(la, c) for m, la, c, _ in self.counts if m == metric}:
            a, b = self.counts[metric, layer, channel, True], self.counts[metric, layer, channel, False]
            if a:
                estimate = lift(a, self.frames[True], b, self.frames[False])
                numbers = (a, self.frames[True], b, self.frames[False])
                found.append(Recurrence(metric, layer, self.names[layer], channel, *numbers, *estimate))
        found.sort(key=lambda r: (-r.low, -r.attention, r.layer, r.channel))
        return found[:most]
