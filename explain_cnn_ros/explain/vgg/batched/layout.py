"""The layout of the explained layers in flat rows: all positions of all neurons one after the other."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from explain_cnn_ros.model.network import convolution_layers


@dataclass(frozen=True)
class LayerSpan:
    """The part of a flat row that belongs to one layer.

    Attributes:
        number: Number of the layer, counted from 1.
        relu: Index of its ReLU in `features`.
        channels: Number of neurons, C.
        height: Number of rows of the map, R.
        width: Number of columns of the map, C'.
        first: First position of the layer in a row of positions, which holds [R, C', C].
        first_neuron: First neuron of the layer in a row of neurons.
    """

    number: int
    relu: int
    channels: int
    height: int
    width: int
    first: int
    first_neuron: int

    @property
    def positions(self) -> slice:
        """The layer's part of a row of positions."""
        return slice(self.first, self.first + self.height * self.width * self.channels)

    @property
    def neurons(self) -> slice:
        """The layer's part of a row of neurons."""
        return slice(self.first_neuron, self.first_neuron + self.channels)


class FlatLayout:
    """The layout of the explained layers in rows of positions [P] and in rows of neurons [T].

    Args:
        features: The layers of a VGG.
        layers: Numbers of the explained layers.
        size: Size (width, height) of the window, in pixels.
        top_n: Number of neurons that are selected in each layer.
        like: Tensor whose data type and device the constants get.

    Attributes:
        spans: The layers, in ascending order, L of them.
        positions: Number of positions of all layers, P.
        neurons: Number of neurons of all layers, T.
        widest: Number of columns in which the neurons of one layer are sorted.
        map_sizes: Sizes (height, width) of the input of each module of `features`.
        positions_of: Number of positions of each neuron, [T].
        layer_of: Index of the layer of each neuron, int64 [T].
        averaging: Matrix that averages neurons over their layer, [T, L].
        padded: Neurons of each layer, padded to the same number, int64 [L * widest]; the padding is 0.
        missing: Whether an entry of `padded` is padding, bool [L * widest].
        first_neurons: First neuron of each layer, int64 [L, 1].
        last_channels: Last channel of each layer, int64 [L, 1].
        widths: Columns of the map of each layer, int64 [L, 1].
    """

    def __init__(
        self, features: nn.Sequential, layers: Collection[int], size: tuple[int, int], top_n: int, like: Tensor
    ) -> None:
        self.map_sizes = _map_sizes(features, (size[1], size[0]))
        spans: list[LayerSpan] = []
        self.positions = self.neurons = 0
        for layer in convolution_layers(features):
            if layer.number in layers:
                span = LayerSpan(
                    *(layer.number, layer.activation, layer.channels, *self.map_sizes[layer.activation]),
                    *(self.positions, self.neurons),
                )
                spans.append(span)
                self.positions, self.neurons = span.positions.stop, span.neurons.stop
        self.spans = tuple(spans)
        self.widest = max(top_n, *(span.channels for span in spans))
        self.by_relu = {span.relu: span for span in spans}

        count = len(spans)
        layer_of = torch.cat([torch.full((span.channels,), i) for i, span in enumerate(spans)])
        channels = torch.tensor([span.channels for span in spans])
        averaging = torch.zeros(self.neurons, count, dtype=torch.float64)
        averaging[torch.arange(self.neurons), layer_of] = 1 / channels[layer_of].double()
        column = torch.arange(self.widest).expand(count, -1)
        first = torch.tensor([span.first_neuron for span in spans])[:, None]
        missing = column >= channels[:, None]
        areas = torch.tensor([span.height * span.width for span in spans])

        device = like.device
        self.positions_of = areas[layer_of].to(like)
        self.layer_of = layer_of.to(device)
        self.averaging = averaging.to(like)
        self.padded = (first + column).masked_fill(missing, 0).flatten().to(device)
        self.missing = missing.flatten().to(device)
        self.first_neurons = first.to(device)
        self.last_channels = (channels[:, None] - 1).to(device)
        self.widths = torch.tensor([[span.width] for span in spans]).to(device)

    @property
    def numbers(self) -> list[int]:
        """Numbers of the layers, in ascending order."""
        return [span.number for span in self.spans]


def _map_sizes(features: nn.Sequential, size: tuple[int, int]) -> list[tuple[int, int]]:
    """Return the size (height, width) of the input of each module, for convolutions that keep it."""
    sizes = []
    for module in features:
        sizes.append(size)
        if isinstance(module, nn.MaxPool2d):
            size = (size[0] // 2, size[1] // 2)
    return sizes
