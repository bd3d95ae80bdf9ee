"""Recurring neurons: how much more often a neuron is selected in doubtful and wrong frames than in confident ones."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from explain_cnn_ros.analysis.intervals import lift


@dataclass(frozen=True)
class Recurrence:
    """The frequency with which a metric selects a neuron.

    Attributes:
        metric: Name of the metric.
        layer: Layer of the neuron, counted from 1.
        layer_name: Name of the layer.
        channel: Channel of the neuron, counted from 0.
        attention: Number of wrong and doubtful frames in which the neuron is selected.
        attention_frames: Number of all wrong and doubtful frames that were explained.
        confident: Number of the other frames in which the neuron is selected.
        confident_frames: Number of all other frames that were explained.
        lift: Share in wrong and doubtful frames over the share in the others.
        low: Lower end of the 95 % confidence interval of the lift.
        high: Upper end of the interval.
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


@dataclass
class Selections:
    """Counts of how often each metric selects each neuron, in frames that need attention and in confident ones.

    Attributes:
        frames: Number of frames, by whether they need attention (are wrong or doubtful).
        counts: Number of selections, by metric, layer, channel and whether the frame needs attention.
        names: Names of the layers.
    """

    frames: Counter[bool] = field(default_factory=Counter)
    counts: Counter[tuple[str, int, int, bool]] = field(default_factory=Counter)
    names: dict[int, str] = field(default_factory=dict)

    def add(self, metric: str, layer: int, layer_name: str, channel: int, attention: bool) -> None:
        """Count a neuron that is selected in a frame.

        Args:
            metric: Name of the metric.
            layer: Layer of the neuron, counted from 1.
            layer_name: Name of the layer.
            channel: Channel of the neuron, counted from 0.
            attention: Whether the frame needs attention.
        """
        self.counts[metric, layer, channel, attention] += 1
        self.names[layer] = layer_name

    def recurring(self, metric: str, count_max: int) -> list[Recurrence]:
        """Return the neurons of a metric by the lower end of the interval of their lift, highest first.

        Args:
            metric: Name of the metric.
            count_max: Maximum number of neurons.
        """
        found = []
        for layer, channel in {(layer, channel) for name, layer, channel, _ in self.counts if name == metric}:
            a, b = self.counts[metric, layer, channel, True], self.counts[metric, layer, channel, False]
            if a:
                estimate = lift(a, self.frames[True], b, self.frames[False])
                numbers = (a, self.frames[True], b, self.frames[False])
                found.append(Recurrence(metric, layer, self.names[layer], channel, *numbers, *estimate))
        found.sort(key=lambda r: (-r.low, -r.attention, r.layer, r.channel))
        return found[:count_max]
