"""Crops of fixed size for the deconvnet, and the tables that place them by the position of a neuron's activation.

The reconstruction of one activation is zero outside of the receptive field of its position. In each block of the
network, the reconstructions of a group of neurons are computed on crops of one size, which lie inside of the map and
contain the receptive field. No size depends on the neurons, therefore, and tables hold the positions of the crops.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from explain_cnn_ros.explain.vgg.batched.layout import FlatLayout, LayerSpan
from explain_cnn_ros.model.network import convolution_layers

#: Entry of a table of filters for positions that the filter does not reach: the filters are padded with zeros.
NO_TAP = 3


@dataclass(frozen=True)
class Unpooling:
    """The columns of an axis table for the step from a pooled map to the map before the pooling.

    Attributes:
        sources: Columns that hold, for each position of the new crop, the position in the old crop.
        switches: Columns that hold the position in the map before pooling; the size of the map where the old crop holds
            nothing.
    """

    sources: slice
    switches: slice


@dataclass(frozen=True)
class AxisTable:
    """The table of one axis: everything that follows from the row, or from the column, of a neuron's position.

    Attributes:
        entries: One line for each position of each layer of the group, int64.
        first_lines: Line of the first position of each layer.
        taps: Columns that hold the tap of the neuron's filter for each position of the first crop, or NO_TAP.
        unpoolings: The columns for each unpooling, by the index of the pooling in `features`.
        extent: Size of the crop of the input.
    """

    entries: Tensor
    first_lines: list[int]
    taps: slice
    unpoolings: dict[int, Unpooling]
    extent: int

    def origins(self, lines: Tensor) -> Tensor:
        """Return the first position of the crops in the input."""
        return lines[:, -1]


@dataclass(frozen=True)
class CropGroup:
    """Layers of one block, whose neurons are reconstructed together.

    Attributes:
        first: Index of the first of the layers among the explained ones; they are consecutive.
        spans: The layers, in ascending order.
        rows: Table of the rows.
        columns: Table of the columns.
    """

    first: int
    spans: Sequence[LayerSpan]
    rows: AxisTable
    columns: AxisTable


def crop_groups(features: nn.Sequential, layout: FlatLayout) -> list[CropGroup]:
    """Group the explained layers by block, and compute the tables of each group.

    Args:
        features: The layers of a VGG, without batch norm.
        layout: The layout of the explained layers.
    """
    poolings = [index for index, module in enumerate(features) if isinstance(module, nn.MaxPool2d)]
    blocks: dict[int, list[LayerSpan]] = {}
    for span in layout.spans:
        blocks.setdefault(sum(pooling < span.relu for pooling in poolings), []).append(span)
    groups, first = [], 0
    for block, spans in blocks.items():
        tables = [_axis_table(features, layout, spans, list(reversed(poolings[:block])), axis) for axis in (0, 1)]
        groups.append(CropGroup(first, spans, *tables))
        first += len(spans)
    return groups


def _axis_table(
    features: nn.Sequential, layout: FlatLayout, spans: Sequence[LayerSpan], poolings: Sequence[int], axis: int
) -> AxisTable:
    """Compute the table of one axis.

    Args:
        features: The layers of a VGG.
        layout: The layout of the explained layers.
        spans: The layers of the group.
        poolings: Indices of the poolings below the group's block, the highest first.
        axis: 0 for rows, 1 for columns.
    """
    convolutions = [layer.convolution for layer in convolution_layers(features)]
    bottom = poolings[0] + 1 if poolings else 0
    # Number of convolutions from the layer down to the first one of its block.
    depths = [sum(bottom <= index < span.relu for index in convolutions) for span in spans]
    size = layout.map_sizes[bottom][axis]
    positions = [torch.arange(size)] * len(spans)
    position = torch.cat(positions)
    depth = torch.repeat_interleave(torch.tensor(depths), size)
    low, high = position - depth, position + depth
    extent = min(size, 2 * max(depths) + 1)
    origin = _origin(low, high, extent, size)
    tap = origin[:, None] + torch.arange(extent) - position[:, None] + 1
    columns, unpoolings = [torch.where((tap >= 0) & (tap <= 2), tap, NO_TAP)], {}
    end = extent
    longest = 2 * max(depths) + 1
    for i, pooling in enumerate(poolings):
        pooled_size, pooled_extent, pooled_origin = size, extent, origin
        bottom = poolings[i + 1] + 1 if i + 1 < len(poolings) else 0
        below = sum(bottom <= index < pooling for index in convolutions)
        size = layout.map_sizes[pooling][axis]
        low, high, longest = 2 * low - below, 2 * high + 1 + below, 2 * longest + 2 * below
        extent = min(size, longest)
        origin = _origin(low, high, extent, size)
        place = origin[:, None] + torch.arange(extent)
        source = place // 2 - pooled_origin[:, None]
        inside = (source >= 0) & (source < pooled_extent) & (place // 2 < pooled_size)
        columns += [torch.where(inside, source, 0), torch.where(inside, place, size)]
        unpoolings[pooling] = Unpooling(slice(end, end + extent), slice(end + extent, end + 2 * extent))
        end += 2 * extent
    entries = torch.cat([*columns, origin[:, None]], 1)
    lines = [i * len(positions[0]) for i in range(len(spans))]
    return AxisTable(entries.to(layout.padded.device), lines, slice(0, columns[0].shape[1]), unpoolings, extent)


def _origin(low: Tensor, high: Tensor, extent: int, size: int) -> Tensor:
    """Return where crops begin that lie inside of a map and contain its positions from `low` to `high`."""
    return (low - (extent - (high - low + 1)) // 2).clamp(min=0, max=size - extent)
