"""The third stage of an explanation: what the decision becomes if neurons are silenced.

The selected neurons are compared with the same number of random neurons of the same layers that are alive.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from explain_cnn_ros.explain.network_adapter import Channels, NetworkAdapter
from explain_cnn_ros.model.output import probability


@dataclass(frozen=True)
class SilencedOutputs:
    """The network's answers for one window with different neurons silenced.

    Attributes:
        logits: Logits for each set of neurons, [K, classes].
        outputs: Margin for each set of neurons: logit of person minus logit of background.
        probabilities: P(person) for each set of neurons.
    """

    logits: Tensor
    outputs: list[float]
    probabilities: list[float]


def silence(
    adapter: NetworkAdapter,
    pixels: Tensor,
    silenced: Sequence[Channels],
    precision: str = "float32",
    values: Mapping[int, Tensor] | None = None,
) -> SilencedOutputs:
    """Silence different neurons of one window.

    Args:
        adapter: Adapter of the network.
        pixels: The window, [1, 3, H, W], values in [0, 255].
        silenced: Sets of neurons, as channels by layer. The activations of a set are set to zero together.
        precision: One of `model.precision.PRECISIONS` except "auto".
        values: Values by layer, [C], to which activations are set; None for zero.
    """
    logits = adapter.silence(pixels, silenced, precision, values)
    return SilencedOutputs(logits, adapter.output(logits).tolist(), probability(logits, adapter.target).tolist())


def draw_unselected(
    activations: Mapping[int, Tensor], selected: Channels, rng: np.random.Generator
) -> dict[int, list[int]]:
    """Draw as many neurons of each layer as are selected, among those that are not selected.

    Args:
        activations: Activations of the window by layer, [C, R, C']. Live neurons are drawn as long as there are any.
        selected: The selected channels by layer.
        rng: Source of randomness.
    """
    return {
        layer: [c for c in _live_first(activations[layer], rng) if c not in channels][: len(channels)]
        for layer, channels in selected.items()
    }


def draw_live(activations: Mapping[int, Tensor], count: int, rng: np.random.Generator) -> dict[int, list[int]]:
    """Draw `count` neurons of each layer. Live neurons are drawn as long as there are any.

    Args:
        activations: Activations of the window by layer, [C, R, C'].
        count: Number of neurons of each layer.
        rng: Source of randomness.
    """
    return {layer: _live_first(activation, rng)[:count] for layer, activation in activations.items()}


def _live_first(activation: Tensor, rng: np.random.Generator) -> list[int]:
    """Return the channels of [C, R, C'] in random order, dead ones at the end."""
    alive = (activation > 0).flatten(1).any(1).tolist()
    # The sort is stable, so the channels stay in the order in which they were drawn.
    return sorted(rng.permutation(len(alive)).tolist(), key=lambda c: not alive[c])
