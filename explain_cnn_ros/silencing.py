"""Do the selected neurons matter to the decision? What becomes of it when they are silenced.

Compared with as many neurons of the same layers that are alive and drawn at random.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from explain_cnn_ros.network import VGGClassifier, convolution_layers

#: Channels by layer.
Channels = Mapping[int, Collection[int]]


def silenced_logits(network: VGGClassifier, window: Tensor, silenced: Sequence[Channels]) -> Tensor:
    """Logits [K, classes] of one normalised window [1, 3, H, W], with other neurons silenced each time.

    Args:
        silenced: K times the channels by layer whose activations, after the ReLU, are set to zero.
    """
    layers = {layer.activation: layer for layer in convolution_layers(network.features)}
    x = window
    for index, module in enumerate(network.features):
        x = module(x)
        if index not in layers:
            continue
        layer = layers[index]
        chosen = [sorted(channels.get(layer.number, ())) for channels in silenced]
        if not any(chosen):
            continue
        # One window goes as far as nothing differs.
        x = x.repeat(len(silenced), 1, 1, 1) if len(x) == 1 < len(silenced) else x.clone()
        for row, channels in enumerate(chosen):
            x[row, channels] = 0
    logits: Tensor = network.classifier(x)
    return logits.expand(len(silenced), -1)


def draw_channels(
    activations: Mapping[int, Tensor], selected: Channels, rng: np.random.Generator
) -> dict[int, list[int]]:
    """As many neurons of each layer as are selected, among those that are not; live ones as far as there are enough.

    Args:
        activations: of the window, by layer, [C, R, C'].
    """
    return {
        layer: [c for c in _live_first(activations[layer], rng) if c not in channels][: len(channels)]
        for layer, channels in selected.items()
    }


def draw_live(activations: Mapping[int, Tensor], count: int, rng: np.random.Generator) -> dict[int, list[int]]:
    """So many neurons of each layer, whatever is selected; live ones as far as there are enough."""
    return {layer: _live_first(activation, rng)[:count] for layer, activation in activations.items()}


def _live_first(activation: Tensor, rng: np.random.Generator) -> list[int]:
    """The channels of [C, R, C'] in random order, the dead ones at the end."""
    alive = (activation > 0).flatten(1).any(1).tolist()
    # A stable sort: in the order that they were drawn.
    return sorted(rng.permutation(len(alive)).tolist(), key=lambda c: not alive[c])


def in_batches(network: VGGClassifier, window: Tensor, silenced: Sequence[Channels], batch: int = 16) -> Tensor:
    """`silenced_logits` for any number of sets, in bounded memory."""
    parts = [silenced_logits(network, window, silenced[i : i + batch]) for i in range(0, len(silenced), batch)]
    return torch.cat(parts)
