"""Choices that change little from frame to frame, so that the eye can follow a live explanation.

Influences are averaged over the frames. Then a neuron that was selected before stays unless another one is clearly
stronger, its reconstruction begins near its last position if the neuron still contributes there, and its patch stays in
the picture unless a much stronger neuron is at the same place.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from explain_cnn_ros.explain.evidence import Evidence
from explain_cnn_ros.explain.network_adapter import Neuron
from explain_cnn_ros.explain.patches import Patch
from explain_cnn_ros.explain.ranking import Key

#: A metric, and a neuron that it selected.
Selected = tuple[str, Neuron]

#: A neuron that was selected before stays until the influence of another one is larger by this share.
STAYS_SELECTED = 0.25

#: A reconstruction begins near its last position if the contribution there is at least this share of the largest one.
#: Near are the positions whose row and column differ by at most REACH.
STAYS_AT, REACH = 0.5, 1

#: A patch that was shown before stays until one at the same place is stronger by this share.
STAYS_SHOWN = 1.0

#: Two patches are at the same place if their intersection over union exceeds this; and if both were shown before.
SAME_PLACE, SAME_PLACE_BEFORE = 0.25, 0.5


class RunningMean:
    """Mean of the values until now, in which a value counts less the older it is.

    The weight of a value of age t is exp(-t / seconds).

    Args:
        seconds: Time constant, above 0.

    Attributes:
        count: Number of values until now.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._sum, self._weight, self._stamp = torch.zeros(0), 0.0, 0
        self.count = 0

    def add(self, values: Tensor, stamp: int) -> Tensor:
        """Add a value and return the mean.

        Args:
            values: The value, of any shape; the same shape each time.
            stamp: Its stamp, in nanoseconds; not less than the last one.
        """
        if self.count == 0:
            self._sum, self._weight = values, 1.0
        else:
            kept = math.exp((self._stamp - stamp) / 1e9 / self._seconds)
            self._sum, self._weight = kept * self._sum + values, kept * self._weight + 1
        self._stamp = stamp
        self.count += 1
        return self._sum / self._weight


def select(
    evidence: Evidence, scores: Mapping[Key, Tensor], before: Collection[Selected], count: int
) -> dict[Key, list[int]]:
    """Select neurons: the top N of each layer by each metric, and of these the strongest over all layers.

    Args:
        evidence: The data of the window, which includes the decision and N.
        scores: Scores [C] by metric and layer. They are comparable between layers.
        before: The neurons that were selected in the last frame.
        count: Maximum number of neurons of each metric.

    Returns:
        The channels by metric and layer, best first; all keys of `scores`.
    """
    raised = {key: values.clone() for key, values in scores.items()}
    for name, neuron in before:
        if (name, neuron.layer) in raised:
            raised[name, neuron.layer][neuron.channel] *= 1 + STAYS_SELECTED
    chosen: dict[Key, list[int]] = {key: [] for key in scores}
    for name in dict.fromkeys(name for name, _ in scores):
        found = [
            (abs(float(values[channel])), layer, channel)
            for (other, layer), values in raised.items()
            if other == name
            for channel in evidence.select(name, values)
        ]
        for _, layer, channel in sorted(found, key=lambda entry: -entry[0])[:count]:
            chosen[name, layer].append(channel)
    return chosen


def stay_at(contributions: Tensor, last: int) -> int | None:
    """Return the position at which a reconstruction begins again; None if it contributes too little there.

    Args:
        contributions: Contributions in the direction of the ranking, [R, C].
        last: Flat index of the last position.

    Returns:
        The flat index of the largest contribution near the last position.
    """
    columns = contributions.shape[1]
    row, column = divmod(last, columns)
    top, left = max(0, row - REACH), max(0, column - REACH)
    near = contributions[top : row + REACH + 1, left : column + REACH + 1]
    largest = float(near.max())
    if largest <= 0 or largest < STAYS_AT * float(contributions.max()):
        return None
    row, column = divmod(int(near.argmax()), near.shape[1])
    return (top + row) * columns + left + column


def show(
    strengths: Mapping[Neuron, float], patches: Mapping[Neuron, Patch], before: Collection[Neuron], count: int
) -> tuple[Neuron, ...]:
    """Choose the neurons whose patches are shown: the strongest at each place.

    Args:
        strengths: Absolute scores of the neurons of one metric.
        patches: Patches of the neurons; those without one are not shown.
        before: The neurons that were shown in the last frame.
        count: Maximum number of neurons.

    Returns:
        The neurons, the strongest first.
    """

    def strength(neuron: Neuron) -> float:
        return strengths[neuron] * (1 + STAYS_SHOWN if neuron in before else 1)

    shown: list[Neuron] = []
    for neuron in sorted(patches, key=strength, reverse=True):
        limits = [SAME_PLACE_BEFORE if neuron in before and other in before else SAME_PLACE for other in shown]
        shared = [_overlap(patches[neuron], patches[other]) for other in shown]
        if all(value <= limit for value, limit in zip(shared, limits, strict=True)):
            shown.append(neuron)
    return tuple(sorted(shown[:count], key=lambda neuron: -strengths[neuron]))


def _overlap(one: Patch, other: Patch) -> float:
    """Return the intersection over union of two patches."""
    width = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
    height = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
    shared = max(0, width) * max(0, height)
    return shared / (one.width * one.height + other.width * other.height - shared)
