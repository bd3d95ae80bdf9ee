"""A pass through a VGG that keeps what an explanation needs. It uses no hooks and leaves nothing in the model."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from explain_cnn_ros.explain.network_adapter import Trace
from explain_cnn_ros.explain.vgg import gradients
from explain_cnn_ros.model.network import VGGClassifier, convolution_layers


@dataclass
class VGGTrace(Trace):
    """The result of one pass through a VGG.

    Attributes:
        switches: Switches of the first window, by the index of the max pooling in `features`: the flat index of each
            maximum in the pooling's input, int64 [C, R, C'], and the size (height, width) of that input.
        rectified: Outputs of the ReLUs for the first window, by the index of the ReLU in `features`, [C, R, C'].
    """

    switches: dict[int, tuple[Tensor, tuple[int, int]]] = field(default_factory=dict)
    rectified: dict[int, Tensor] = field(default_factory=dict)


def trace(
    network: VGGClassifier,
    batch: Tensor,
    layers: Collection[int],
    switches: bool = False,
    rectified: bool = False,
    pre_relu: bool = False,
    output: Callable[[Tensor], Tensor] | None = None,
) -> VGGTrace:
    """Pass normalised windows through the network and keep the activations of some layers.

    Args:
        network: The VGG.
        batch: Normalised windows [N, 3, H, W].
        layers: Numbers of the layers, counted from 1.
        switches: Also keep the switches of the first window.
        rectified: Also keep the outputs of the ReLUs for the first window.
        pre_relu: Keep the activations before the ReLU, not after it.
        output: Computes the output [N] whose gradient is passed back, from the logits; None for no gradients.
    """
    layer_of_relu = {layer.activation: layer.number for layer in convolution_layers(network.features)}
    lowest = min((index for index, number in layer_of_relu.items() if number in layers), default=0)
    result, record = VGGTrace(torch.empty(0)), gradients.Record()
    x = batch
    for index, module in enumerate(network.features):
        layer = layer_of_relu.get(index)
        requested = layer is not None and layer in layers
        if layer is not None and requested and pre_relu:
            result.activations[layer] = x.clone()  # the ReLU works in place
        if isinstance(module, nn.MaxPool2d) and output is not None and index > lowest:
            size = (x.shape[-2], x.shape[-1])
            x, record.switches[index] = gradients.pool(module, x)
            if switches:
                result.switches[index] = (record.switches[index][0], size)
            continue
        if switches and isinstance(module, nn.MaxPool2d):
            result.switches[index] = (gradients.pool(module, x[:1])[1][0], (x.shape[-2], x.shape[-1]))
        x = module(x)
        if rectified and layer is not None:
            result.rectified[index] = x[0].clone()  # a view would keep the whole batch in memory
        if layer is not None and requested and not pre_relu:
            result.activations[layer] = x
        if layer is not None and output is not None and index >= lowest:
            record.rectified[index] = x
    if output is None or not layers:
        result.logits = network.classifier(x)
        return result
    result.logits, gradient = gradients.head(network, x, output)
    result.influences, result.contributions = gradients.influences(
        network.features, record, gradient, layers, of_first=switches
    )
    return result
