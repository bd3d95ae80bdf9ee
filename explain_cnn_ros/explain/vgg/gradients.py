"""The gradient of the output with respect to a VGG's activations: the backward pass, module by module.

It computes what autograd computes, down to the lowest explained layer only. It stores no graph and no gradients of
weights, runs in inference mode, and uses Winograd convolutions where the forward pass does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from explain_cnn_ros.model.network import VGGClassifier, convolution_layers
from explain_cnn_ros.model.winograd import WinogradConv2d


@dataclass
class Record:
    """The tensors of a forward pass that the backward pass reads.

    Attributes:
        rectified: Outputs of the ReLUs by their index in `features`, [N, C, R, C'].
        switches: Flat indices of the maxima of the max poolings by their index in `features`, int64 [N, C, R, C'].
    """

    rectified: dict[int, Tensor] = field(default_factory=dict)
    switches: dict[int, Tensor] = field(default_factory=dict)


def head(network: VGGClassifier, features: Tensor, output: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Compute the logits, and the gradient of the output with respect to the last map.

    Args:
        network: The VGG.
        features: The last map, [N, C, R, C'].
        output: Computes the output [N] from the logits [N, classes].

    Returns:
        Logits [N, classes]; and the gradient of each window's output, [N, C, R, C'].
    """
    with torch.inference_mode(False), torch.enable_grad():
        # The dense layers are small, so autograd costs nothing here. The copy is outside of inference mode.
        leaf = features.clone().requires_grad_()
        logits = network.classifier(leaf)
        (gradient,) = torch.autograd.grad(output(logits).sum(), leaf)
    return logits.detach(), gradient


def influences(
    features: nn.Sequential,
    record: Record,
    gradient: Tensor,
    layers: Collection[int],
    of_first: bool = False,
) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
    """Pass the gradient of the output back through the convolutions, and compute the influences of the neurons.

    Args:
        features: The layers of a VGG, without batch norm.
        record: The record of the forward pass; it is emptied on the way, which frees the memory.
        gradient: Gradient of the output with respect to the last map, [N, C, R, C'].
        layers: Numbers of the layers, counted from 1.
        of_first: Also return the contributions of the first window.

    Returns:
        Influences by layer: sums over positions of activation times gradient, [N, C], at least float32. And the same by
        position for the first window, [C, R, C']; empty unless `of_first`.

    Raises:
        TypeError: `features` has layers other than convolutions, ReLUs and max poolings.
    """
    sums: dict[int, Tensor] = {}
    contributions: dict[int, Tensor] = {}
    for layer, activation, of_layer in backward(features, record, gradient, layers):
        product = activation * of_layer
        wide = torch.promote_types(product.dtype, torch.float32)
        sums[layer] = product.sum((2, 3), dtype=wide)
        if of_first:
            # A view would keep the whole batch in memory.
            contributions[layer] = product[0].to(wide, copy=True)
    return sums, contributions


def backward(
    features: nn.Sequential, record: Record, gradient: Tensor, layers: Collection[int]
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Pass the gradient of the output back through the convolutions, down to the lowest of some layers.

    Args:
        features: The layers of a VGG, without batch norm.
        record: The record of the forward pass; it is emptied on the way, which frees the memory.
        gradient: Gradient of the output with respect to the last map, [N, C, R, C'].
        layers: Numbers of the layers, counted from 1.

    Yields:
        Each of the layers, the highest first: its number, its activation after the ReLU, and the gradient with respect
        to that, both [N, C, R, C'].

    Raises:
        TypeError: `features` has layers other than convolutions, ReLUs and max poolings.
    """
    of_relu = {layer.activation: layer.number for layer in convolution_layers(features)}
    lowest = min(index for index, number in of_relu.items() if number in layers)
    for index in range(len(features) - 1, lowest - 1, -1):
        module = features[index]
        if isinstance(module, nn.ReLU):
            activation = record.rectified.pop(index)
            if of_relu[index] in layers:
                yield of_relu[index], activation, gradient
            if index > lowest:
                # This is what autograd runs for a ReLU; a product with a mask would take ten times as long.
                gradient = torch.ops.aten.threshold_backward(gradient, activation, 0)
        elif isinstance(module, WinogradConv2d):
            gradient = module.input_gradient(gradient)
        elif isinstance(module, nn.Conv2d):
            assert not isinstance(module.padding, str)
            gradient = nn.functional.conv_transpose2d(gradient, module.weight, None, module.stride, module.padding)
        elif isinstance(module, nn.MaxPool2d):
            gradient = torch.ops.aten.max_pool2d_with_indices_backward(
                gradient, record.rectified[index - 1], *_geometry(module), record.switches.pop(index)
            )
        else:
            raise TypeError(
                f"gradients are computed of convolution, ReLU and max pooling, not of {type(module).__name__}: "
                "fold batch norm into the convolutions first"
            )


def pool(module: nn.MaxPool2d, maps: Tensor) -> tuple[Tensor, Tensor]:
    """Return the pooled maps, and the flat indices of the maxima in `maps`."""
    pooled, switches = nn.functional.max_pool2d(maps, *_geometry(module), return_indices=True)
    return pooled, switches


def _geometry(module: nn.MaxPool2d) -> tuple[list[int], list[int], list[int], list[int], bool]:
    """Return kernel size, stride, padding, dilation and ceil mode of a pooling."""
    pairs = [
        [value, value] if isinstance(value, int) else list(value)
        for value in (module.kernel_size, module.stride, module.padding, module.dilation)
    ]
    return pairs[0], pairs[1], pairs[2], pairs[3], module.ceil_mode
