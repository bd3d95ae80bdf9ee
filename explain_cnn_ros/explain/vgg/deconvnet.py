"""The deconvnet (Zeiler & Fergus 2014): reconstructs a neuron's strongest activation in the input.

It sets everything else in the neuron's layer to zero and passes the activation backwards through the network: unpooling
through the recorded switches, rectification, and convolution with the transposed weights, layer by layer. This module
computes whole maps. `deconvnet_crops` is faster for the default. Only this module can start from whole maps, and only
this module has the guided variant of the authors' code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from explain_cnn_ros.explain.network_adapter import Neuron
from explain_cnn_ros.model.network import convolution_layers


def strongest(activation: Tensor) -> Tensor:
    """Keep the maximum of each map [K, R, C], the first of equal ones, and set everything else to zero: [K, R, C]."""
    flat = activation.flatten(1)
    position = flat.argmax(1, keepdim=True)
    return torch.zeros_like(flat).scatter_(1, position, flat.gather(1, position)).view_as(activation)


def repeat(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Undo a 2 x 2 max pooling by repeating each value at all four positions, as the authors' code does.

    Args:
        maps: Pooled maps [K, C, R, C'].
        size: Size (height, width) of the maps before pooling.

    Returns:
        Maps [K, C, height, width].
    """
    wide = nn.functional.interpolate(maps, scale_factor=2.0, mode="nearest")
    # The pooling ignores an odd last row or column.
    return nn.functional.pad(wide, (0, size[1] - wide.shape[-1], 0, size[0] - wide.shape[-2]))


def unpool(maps: Tensor, switches: Tensor, size: tuple[int, int]) -> Tensor:
    """Undo a 2 x 2 max pooling by moving each value to the position of the maximum; everything else is zero.

    Args:
        maps: Pooled maps [K, C, R, C'].
        switches: Flat indices of the maxima in the maps before pooling, int64 [C, R, C'].
        size: Size (height, width) of the maps before pooling.

    Returns:
        Maps [K, C, height, width].
    """
    return repeat(maps, size) * switch_mask(switches, size, maps.dtype)


def switch_mask(switches: Tensor, size: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """Return maps [C, height, width] that are 1 at the maxima of a pooling and 0 elsewhere.

    Args:
        switches: Flat indices of the maxima in the maps before pooling, int64 [C, R, C'].
        size: Size (height, width) of the maps before pooling.
        dtype: Data type of the result.
    """
    channels = len(switches)
    mask = torch.zeros(channels, size[0] * size[1], dtype=dtype, device=switches.device)
    return mask.scatter_(1, switches.flatten(1), 1.0).view(channels, *size)


def deconvolve(
    features: nn.Sequential,
    activations: Mapping[int, Tensor],
    switches: Mapping[int, tuple[Tensor, tuple[int, int]]],
    neurons: Sequence[Neuron],
    batch: int = 32,
    whole_maps: bool = False,
    rectified: Mapping[int, Tensor] | None = None,
) -> Tensor:
    """Reconstruct the strongest activation of each neuron in the input.

    Neurons of different layers share a backward pass; each one joins the batch when the pass reaches its layer.

    Args:
        features: The layers of a VGG, without batch norm.
        activations: Activations of the unperturbed image after the ReLU, by layer, [C, R, C'].
        switches: Switches of the unperturbed image, by the index of the pooling in `features`: the flat indices of the
            maxima, int64 [C, R, C'], and the size (height, width) of the maps before pooling.
        neurons: The neurons, K of them, in any order.
        batch: Maximum number of neurons in one backward pass, which bounds the memory.
        whole_maps: Start from the neuron's whole map, not from its strongest activation.
        rectified: Outputs of the ReLUs for the unperturbed image, by their index in `features`, [C, R, C']. If they are
            given, the guided variant of the authors' code is computed: positions at which a ReLU's output is 0 are set
            to 0 on the way back, and unpooling repeats values. None for the deconvnet.

    Returns:
        Reconstructions in the order of `neurons`, [K, 3, H, W], in the input's normalised units.

    Raises:
        TypeError: `features` has layers other than convolutions, ReLUs and max poolings.
    """
    order = sorted(range(len(neurons)), key=lambda i: (-neurons[i].layer, i))
    parts = [
        _descend(
            features, activations, switches, [neurons[i] for i in order[start : start + batch]], whole_maps, rectified
        )
        for start in range(0, len(order), batch)
    ]
    if not parts:
        return torch.zeros(0)
    result = torch.cat(parts)
    return result[torch.argsort(torch.tensor(order, device=result.device))]


def _descend(
    features: nn.Sequential,
    activations: Mapping[int, Tensor],
    switches: Mapping[int, tuple[Tensor, tuple[int, int]]],
    neurons: Sequence[Neuron],
    whole_maps: bool,
    rectified: Mapping[int, Tensor] | None,
) -> Tensor:
    """Compute `deconvolve` in one pass, for neurons that are sorted by layer, the deepest layer first."""
    layers = convolution_layers(features)
    top = layers[neurons[0].layer - 1]
    by_activation = {layer.activation: layer for layer in layers}
    maps: Tensor | None = None
    for index in range(top.activation, -1, -1):
        module = features[index]
        if index in by_activation:
            layer = by_activation[index]
            channels = [n.channel for n in neurons if n.layer == layer.number]
            if maps is not None:
                maps = maps.relu()
                if rectified is not None:
                    maps = maps * (rectified[index] > 0)
            if channels:
                values = activations[layer.number][channels]
                values = values if whole_maps else strongest(values)
                seeds = values.new_zeros(len(channels), layer.channels, *values.shape[1:])
                seeds[range(len(channels)), channels] = values
                maps = seeds if maps is None else torch.cat([maps, seeds])
        elif isinstance(module, nn.Conv2d):
            assert maps is not None
            assert not isinstance(module.padding, str)
            maps = nn.functional.conv_transpose2d(maps, module.weight, None, module.stride, module.padding)
        elif isinstance(module, nn.MaxPool2d):
            assert maps is not None
            maps = unpool(maps, *switches[index]) if rectified is None else repeat(maps, switches[index][1])
        else:
            raise TypeError(
                f"the deconvnet supports convolution, ReLU and max pooling, not {type(module).__name__}: "
                "fold batch norm into the convolutions first"
            )
    assert maps is not None
    return maps
