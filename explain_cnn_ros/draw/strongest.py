"""The neurons that a decision rests on most, over all layers, each at a place of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from explain_cnn_ros.draw.boxes import Box, chosen_rankings, opposes
from explain_cnn_ros.explain.explanation import Explanation, LayerRanking, RankedNeuron
from explain_cnn_ros.explain.metrics import OPPOSING, SUPPORTING
from explain_cnn_ros.explain.patches import Patch

#: Two patches are at the same place if the area that they share is more than this part of the area that they cover.
SAME_PLACE = 0.25

#: Number of neurons of each of the two metrics of influence that an overlay shows by default.
SHOWN = 6


@dataclass(frozen=True)
class StrongNeuron:
    """The strongest neuron at its place in the image.

    Attributes:
        neuron: The neuron.
        layer_name: Name of its layer, for instance "conv3_1".
        unstable: Whether its ranking is unstable.
        opposing: Whether it opposes the shown decision.
        others: Number of weaker neurons of the same metric at the same place.
    """

    neuron: RankedNeuron
    layer_name: str
    unstable: bool
    opposing: bool
    others: int

    @property
    def box(self) -> Box | None:
        """Its box; None if it has no patch."""
        patch = self.neuron.patch
        return None if patch is None else Box(self.neuron, self.layer_name, patch, self.unstable, self.opposing)


def strongest(explanation: Explanation, metric: str, count: int) -> list[StrongNeuron]:
    """Return the neurons with the largest absolute scores over all layers, of each place only the strongest one.

    Scores of different layers can be compared if the metric is influence or counter_influence.

    Args:
        explanation: The explanation.
        metric: Name of the metric.
        count: Maximum number of neurons.

    Returns:
        The neurons, the strongest first. Neurons without a patch have a place of their own.
    """
    neurons = [(r, n) for r in explanation.rankings if r.metric == metric for n in r.neurons]
    neurons.sort(key=lambda pair: -abs(pair[1].score))
    places: list[list[int]] = []
    for index, (_, neuron) in enumerate(neurons):
        for place in places:
            if _same_place(neurons[place[0]][1].patch, neuron.patch):
                place.append(index)
                break
        else:
            if len(places) < count:  # further places are not shown
                places.append([index])
    found = []
    for first, *others in places:
        ranking, neuron = neurons[first]
        found.append(StrongNeuron(neuron, ranking.layer_name, ranking.unstable, opposes(metric), len(others)))
    return found


def shown_rankings(
    explanation: Explanation, metric: str | Sequence[str] | None = None, top_n: int | None = None
) -> list[LayerRanking]:
    """Return the rankings of an overlay, with only the neurons that it shows.

    Args:
        explanation: The explanation.
        metric: Name of a metric, or several names; None: those of `boxes.shown_metrics`.
        top_n: Maximum number of neurons of each ranking. None: the SHOWN strongest ones of influence, and of
            counter_influence, over all layers; and all neurons of other metrics.

    Raises:
        ValueError: The explanation has no rankings by a metric.
    """
    rankings = chosen_rankings(explanation, metric)
    if top_n is not None:
        return [dataclasses.replace(ranking, neurons=ranking.neurons[:top_n]) for ranking in rankings]
    shown = []
    for name in dict.fromkeys(ranking.metric for ranking in rankings):
        own = [ranking for ranking in rankings if ranking.metric == name]
        if name in (SUPPORTING, OPPOSING):
            chosen = {id(strong.neuron) for strong in strongest(explanation, name, SHOWN)}
            own = [dataclasses.replace(r, neurons=tuple(n for n in r.neurons if id(n) in chosen)) for r in own]
        shown += own
    return shown


def _same_place(one: Patch | None, other: Patch | None) -> bool:
    """Return whether two patches are at the same place."""
    if one is None or other is None:
        return False
    width = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
    height = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
    shared = max(0, width) * max(0, height)
    covered = one.width * one.height + other.width * other.height - shared
    return shared > SAME_PLACE * covered
