"""Passes of one window through a VGG with neurons silenced: their activations are set to zero, or to other constants.

A silenced neuron changes nothing below its layer, and the next convolution is linear in its activation. Therefore, a
copy of the window joins the pass only after that convolution: there, it is the window minus the part of the silenced
neurons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from explain_cnn_ros.explain.network_adapter import Channels
from explain_cnn_ros.model.network import VGGClassifier, convolution_layers

#: Maximum number of silenced copies of a window in one pass, which bounds the memory.
SILENCED_BATCH = 36


@dataclass(frozen=True)
class _Copy:
    """A copy of the window with neurons silenced.

    Attributes:
        silenced: The silenced channels by the index of the ReLU in `features`.
        joins: Index of the module after which the copy joins the pass: the first convolution after a silenced neuron,
            or the last ReLU.
    """

    silenced: Mapping[int, Sequence[int]]
    joins: int


def silenced_logits(
    network: VGGClassifier, window: Tensor, silenced: Sequence[Channels], values: Mapping[int, Tensor] | None = None
) -> Tensor:
    """Compute the logits of one window with different neurons silenced each time.

    Args:
        network: The VGG.
        window: A normalised window [1, 3, H, W].
        silenced: For each of K passes, the channels by layer whose activations after the ReLU are replaced.
        values: The constants by layer, [C], that replace the activations; zero for layers that are missing.

    Returns:
        Logits [K, classes].
    """
    features = network.features
    relu_of = {layer.number: layer.activation for layer in convolution_layers(features)}
    copies: dict[int, _Copy] = {}
    for k, channels in enumerate(silenced):
        by_relu = {relu_of[layer]: list(chosen) for layer, chosen in channels.items() if len(chosen)}
        if by_relu:
            relu = min(by_relu)
            later = (i for i in range(relu, len(features)) if isinstance(features[i], nn.Conv2d))
            copies[k] = _Copy(by_relu, next(later, relu))
    constants = {relu_of[layer]: value.to(window).view(-1, 1, 1) for layer, value in (values or {}).items()}
    x, inputs, outputs = window, {}, {}
    joins = {copy.joins for copy in copies.values()}
    for index, module in enumerate(features):
        if index in joins:
            inputs[index] = x
        x = module(x)
        if index in joins:
            outputs[index] = x.clone()  # the ReLU works in place
    logits: Tensor = network.classifier(x)
    result = logits.repeat(len(silenced), 1)
    order = sorted(copies, key=lambda k: copies[k].joins)
    for start in range(0, len(order), SILENCED_BATCH):
        rows = order[start : start + SILENCED_BATCH]
        result[rows] = _pass(network, [copies[k] for k in rows], inputs, outputs, constants)
    return result


def _pass(
    network: VGGClassifier,
    copies: Sequence[_Copy],
    inputs: Mapping[int, Tensor],
    outputs: Mapping[int, Tensor],
    constants: Mapping[int, Tensor],
) -> Tensor:
    """Pass copies of a window through the rest of the network.

    Args:
        network: The VGG.
        copies: K copies, sorted by the module after which they join.
        inputs: Inputs of these modules for the window, [1, C, R, C'], by the index in `features`.
        outputs: Their outputs.
        constants: The constants that replace activations, [C, 1, 1], by the index of the ReLU; zero if missing.

    Returns:
        Logits [K, classes].
    """
    features = network.features
    x: Tensor | None = None
    for index in range(copies[0].joins, len(features)):
        module = features[index]
        if x is not None:
            x = module(x)
        joining = [
            _joined(module, copy, inputs[index], outputs[index], constants) for copy in copies if copy.joins == index
        ]
        if joining:
            x = torch.cat(joining if x is None else [x, *joining])
        assert x is not None
        if isinstance(module, nn.ReLU):
            for row, copy in enumerate(copies[: len(x)]):
                if index in copy.silenced:
                    x[row, copy.silenced[index]] = constants[index][copy.silenced[index]] if index in constants else 0
    assert x is not None
    logits: Tensor = network.classifier(x)
    return logits


def _joined(module: nn.Module, copy: _Copy, input: Tensor, output: Tensor, constants: Mapping[int, Tensor]) -> Tensor:
    """Return the output of a module for a copy, [1, C, R, C'], from its input and output for the window."""
    if not isinstance(module, nn.Conv2d):
        return output.clone()  # the last ReLU, after which the activations are replaced
    relu = min(copy.silenced)
    chosen = copy.silenced[relu]
    removed = input[:, chosen] - constants[relu][chosen] if relu in constants else input[:, chosen]
    part = nn.functional.conv2d(removed, module.weight[:, chosen], None, module.stride, module.padding, module.dilation)
    return output - part
