"""A pass through the network that keeps what an explanation needs: no hooks, nothing left in the model."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from explain_cnn_ros.network import VGGClassifier, convolution_layers


@dataclass
class Trace:
    """What one pass left.

    logits: [N, classes].
    activations: by layer number, after the ReLU, [N, C, R, C'].
    switches: by index into `features` of each max pooling, the flat index of each maximum in the pooling's
        input map, int64 [N, C, R, C']; and the (height, width) of that map.
    """

    logits: Tensor
    activations: dict[int, Tensor] = field(default_factory=dict)
    switches: dict[int, tuple[Tensor, tuple[int, int]]] = field(default_factory=dict)


def trace(network: VGGClassifier, batch: Tensor, layers: Collection[int], switches: bool = False) -> Trace:
    """Run normalised windows [N, 3, H, W] through the network and keep the activations of `layers`.

    switches: also keep where each max pooling found its maxima.
    """
    tapped = {layer.activation: layer.number for layer in convolution_layers(network.features)}
    kept = Trace(torch.empty(0))
    x = batch
    for index, module in enumerate(network.features):
        if switches and isinstance(module, nn.MaxPool2d):
            size = (x.shape[-2], x.shape[-1])
            x, indices = nn.functional.max_pool2d(
                x, module.kernel_size, module.stride, module.padding, module.dilation, module.ceil_mode, True
            )
            kept.switches[index] = (indices, size)
        else:
            x = module(x)
        if tapped.get(index) in layers:
            kept.activations[tapped[index]] = x
    kept.logits = network.classifier(x)
    return kept
