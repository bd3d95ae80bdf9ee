"""Passes of one window through a VGG with neurons silenced."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from explain_cnn_ros.explain.network_adapter import Channels
from explain_cnn_ros.model.network import VGGClassifier, convolution_layers


def silenced_logits(network: VGGClassifier, window: Tensor, silenced: Sequence[Channels]) -> Tensor:
    """Compute the logits of one window with different neurons silenced each time.

    Args:
        network: The VGG.
        window: A normalised window [1, 3, H, W].
        silenced: For each of K passes, the channels by layer whose activations after the ReLU are set to zero.

    Returns:
        Logits [K, classes].
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
        # The passes share one window up to the first layer in which they differ.
        x = x.repeat(len(silenced), 1, 1, 1) if len(x) == 1 < len(silenced) else x.clone()
        for row, channels in enumerate(chosen):
            x[row, channels] = 0
    logits: Tensor = network.classifier(x)
    return logits.expand(len(silenced), -1)
