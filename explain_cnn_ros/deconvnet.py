"""Deconvnet (Zeiler & Fergus 2014): a neuron's strongest activation, followed down to the pixels.

From one activation, everything else in its layer set to zero: unpool through the recorded switches, rectify,
filter with the transposed weights, layer by layer. Densely, on whole maps: `deconvnet_crops` is the fast way for the
default; whole maps as a start, and the authors' guided variant, are here only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from explain_cnn_ros.network import convolution_layers


@dataclass(frozen=True, order=True)
class Neuron:
    """An output channel of a convolution; layers count from 1, channels from 0."""

    layer: int
    channel: int


@dataclass(frozen=True)
class Reconstructions:
    """What neurons reconstruct in the input, in its normalised units, as crops; beyond each crop there is nothing.

    neurons: K of them.
    pixels: [K, 3, h, w].
    tops, lefts: int64 [K], where in the input each crop's top left corner lies; crops may reach outside of the input,
        and are zero there.
    """

    neurons: tuple[Neuron, ...]
    pixels: Tensor
    tops: Tensor
    lefts: Tensor

    @classmethod
    def whole(cls, neurons: Sequence[Neuron], pixels: Tensor) -> Reconstructions:
        """Of the whole input, [K, 3, H, W]."""
        corner = torch.zeros(len(neurons), dtype=torch.int64, device=pixels.device)
        return cls(tuple(neurons), pixels, corner, corner)


def strongest(activation: Tensor) -> Tensor:
    """Keep each map's maximum (the first of equals), zero elsewhere: [K, R, C] -> [K, R, C]."""
    flat = activation.flatten(1)
    position = flat.argmax(1, keepdim=True)
    return torch.zeros_like(flat).scatter_(1, position, flat.gather(1, position)).view_as(activation)


def repeat(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Each value at all four places that were pooled, as the authors' code has it: [K, C, height, width]."""
    wide = nn.functional.interpolate(maps, scale_factor=2.0, mode="nearest")
    # An odd last row or column took no part in the pooling.
    return nn.functional.pad(wide, (0, size[1] - wide.shape[-1], 0, size[0] - wide.shape[-2]))


def unpool(maps: Tensor, switches: Tensor, size: tuple[int, int]) -> Tensor:
    """Undo a 2 x 2 max pooling: each value goes back to where the maximum was, zero elsewhere.

    Args:
        maps: [K, C, R, C'].
        switches: flat indices of the maxima in a map of `size`, [C, R, C'].
        size: (height, width) of the result's maps; [K, C, height, width].
    """
    return repeat(maps, size) * switch_mask(switches, size, maps.dtype)


def switch_mask(switches: Tensor, size: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """One where the maxima of a pooling were, zero elsewhere: switches [C, R, C'] -> [C, height, width]."""
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
    """Reconstruct each neuron's strongest activation in the input, [K, 3, H, W], in the input's normalised units.

    Neurons of all layers go down together: each joins the batch when the pass reaches its layer.

    Args:
        features: a VGG's convolutions, without batch norm.
        activations: of the unperturbed image, after the ReLU, by layer: [C, R, C'].
        switches: of the unperturbed image, by index of the pooling: ([C, R, C'], size of the pooled map).
        neurons: which; the order of the result.
        batch: neurons that go down at a time; bounds the memory.
        whole_maps: start from all of each neuron's map, not from its strongest activation.
        rectified: what came out of the ReLUs of the unperturbed image, by their index, [C, R, C']. If given, the
            authors' way: where a ReLU let nothing through, nothing comes back, and unpooling repeats pixels.
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
    """`deconvolve` for neurons that are sorted by layer, deepest first."""
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
                f"the deconvnet knows convolution, ReLU and max pooling, not {type(module).__name__}: "
                "fold batch norm into the convolutions first"
            )
    assert maps is not None
    return maps
