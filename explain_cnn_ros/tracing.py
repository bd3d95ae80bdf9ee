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
    activations: by layer number, [N, C, R, C'].
    switches: of the first window, by index into `features` of each max pooling: the flat index of each maximum in the
        pooling's input map, int64 [C, R, C'], and the (height, width) of that map.
    rectified: of the first window, by index into `features` of each ReLU: what came out of it, [C, R, C'].
    """

    logits: Tensor
    activations: dict[int, Tensor] = field(default_factory=dict)
    switches: dict[int, tuple[Tensor, tuple[int, int]]] = field(default_factory=dict)
    rectified: dict[int, Tensor] = field(default_factory=dict)


def trace(
    network: VGGClassifier,
    batch: Tensor,
    layers: Collection[int],
    switches: bool = False,
    rectified: bool = False,
    pre_relu: bool = False,
) -> Trace:
    """Run normalised windows [N, 3, H, W] through the network and keep the activations of `layers`.

    Args:
        switches, rectified: also keep these, of the first window.
        pre_relu: keep activations before the ReLU, not after it.
    """
    tapped = {layer.activation: layer.number for layer in convolution_layers(network.features)}
    kept = Trace(torch.empty(0))
    x = batch
    for index, module in enumerate(network.features):
        layer = tapped.get(index)
        asked = layer is not None and layer in layers
        if layer is not None and asked and pre_relu:
            kept.activations[layer] = x.clone()  # the ReLU works in place
        if switches and isinstance(module, nn.MaxPool2d):
            size = (x.shape[-2], x.shape[-1])
            _, indices = nn.functional.max_pool2d(
                x[:1], module.kernel_size, module.stride, module.padding, module.dilation, module.ceil_mode, True
            )
            kept.switches[index] = (indices[0], size)
        x = module(x)
        if rectified and layer is not None:
            kept.rectified[index] = x[0].clone()  # a view would keep the whole batch
        if layer is not None and asked and not pre_relu:
            kept.activations[layer] = x
    kept.logits = network.classifier(x)
    return kept
