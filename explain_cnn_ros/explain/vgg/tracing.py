"""A pass through a VGG that keeps what an explanation needs. It uses no hooks and leaves nothing in the model."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from explain_cnn_ros.explain.network_adapter import Trace
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
) -> VGGTrace:
    """Pass normalised windows through the network and keep the activations of some layers.

    Args:
        network: The VGG.
        batch: Normalised windows [N, 3, H, W].
        layers: Numbers of the layers, counted from 1.
        switches: Also keep the switches of the first window.
        rectified: Also keep the outputs of the ReLUs for the first window.
        pre_relu: Keep the activations before the ReLU, not after it.
    """
    layer_of_relu = {layer.activation: layer.number for layer in convolution_layers(network.features)}
    result = VGGTrace(torch.empty(0))
    x = batch
    for index, module in enumerate(network.features):
        layer = layer_of_relu.get(index)
        requested = layer is not None and layer in layers
        if layer is not None and requested and pre_relu:
            result.activations[layer] = x.clone()  # the ReLU works in place
        if switches and isinstance(module, nn.MaxPool2d):
            size = (x.shape[-2], x.shape[-1])
            _, indices = nn.functional.max_pool2d(
                x[:1], module.kernel_size, module.stride, module.padding, module.dilation, module.ceil_mode, True
            )
            result.switches[index] = (indices[0], size)
        x = module(x)
        if rectified and layer is not None:
            result.rectified[index] = x[0].clone()  # a view would keep the whole batch in memory
        if layer is not None and requested and not pre_relu:
            result.activations[layer] = x
    result.logits = network.classifier(x)
    return result
