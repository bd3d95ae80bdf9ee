"""The deconvnet (Zeiler & Fergus 2014): reconstructs an activation of a neuron in the input.

It sets everything else in the neuron's layer to zero and passes the activation backwards through the network: unpooling
through the recorded switches, rectification, and convolution with the transposed weights, layer by layer. This module
computes whole maps. `deconvnet_crops` is faster for the default. Only this module can start from whole maps, and only
this module has the guided variant of the authors' code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from explain_cnn_ros.explain.network_adapter import Start
from explain_cnn_ros.model.network import convolution_layers


def only_at(activation: Tensor, positions: Sequence[int | None]) -> Tensor:
    """Keep one activation of each map and set everything else to zero.

    Args:
        activation: Maps [K, R, C].
        positions: Flat index of the position that is kept for each map; None to keep the whole map.

    Returns:
        [K, R, C].
    """
    kept = torch.zeros_like(activation, dtype=torch.bool).flatten(1)
    for row, position in zip(kept, positions, strict=True):
        row[slice(None) if position is None else position] = True
    return activation.where(kept.view_as(activation), 0)


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
    starts: Sequence[Start],
    batch: int = 32,
    rectified: Mapping[int, Tensor] | None = None,
) -> Tensor:
    """Reconstruct one activation of each neuron, or its whole map, in the input.

    Neurons of different layers share a backward pass; each one joins the batch when the pass reaches its layer.

    Args:
        features: The layers of a VGG, without batch norm.
        activations: Activations of the unperturbed image after the ReLU, by layer, [C, R, C'].
        switches: Switches of the unperturbed image, by the index of the pooling in `features`: the flat indices of the
            maxima, int64 [C, R, C'], and the size (height, width) of the maps before pooling.
        starts: The neurons and positions, K of them, in any order.
        batch: Maximum number of neurons in one backward pass, which bounds the memory.
        rectified: Outputs of the ReLUs for the unperturbed image, by their index in `features`, [C, R, C']. If they are
            given, the guided variant of the authors' code is computed: positions at which a ReLU's output is 0 are set
            to 0 on the way back, and unpooling repeats values. None for the deconvnet.

    Returns:
        Reconstructions in the order of `starts`, [K, 3, H, W], in the input's normalised units.

    Raises:
        TypeError: `features` has layers other than convolutions, ReLUs and max poolings.
    """
    order = sorted(range(len(starts)), key=lambda i: (-starts[i].neuron.layer, i))
    parts = [
        _descend(features, activations, switches, [starts[i] for i in order[first : first + batch]], rectified)
        for first in range(0, len(order), batch)
    ]
    if not parts:
        return torch.zeros(0)
    result = torch.cat(parts)
    return result[torch.argsort(torch.tensor(order, device=result.device))]


def _descend(
    features: nn.Sequential,
    activations: Mapping[int, Tensor],
    switches: Mapping[int, tuple[Tensor, tuple[int, int]]],
    starts: Sequence[Start],
    rectified: Mapping[int, Tensor] | None,
) -> Tensor:
    """Compute `deconvolve` in one pass, for neurons that are sorted by layer, the deepest layer first."""
    layers = convolution_layers(features)
    top = layers[starts[0].neuron.layer - 1]
    by_activation = {layer.activation: layer for layer in layers}
    maps: Tensor | None = None
    for index in range(top.activation, -1, -1):
        module = features[index]
        if index in by_activation:
            layer = by_activation[index]
            own = [start for start in starts if start.neuron.layer == layer.number]
            channels = [start.neuron.channel for start in own]
            if maps is not None:
                maps = maps.relu()
                if rectified is not None:
                    maps = maps * (rectified[index] > 0)
            if channels:
                values = only_at(activations[layer.number][channels], [start.position for start in own])
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
