"""The deconvnet on receptive fields: the same reconstructions, without the zeros around them.

What a neuron's strongest activation reconstructs lies within that position's receptive field: 10 pixels wide for
conv2_1, 76 for conv4_2. So each layer's neurons go down on crops that begin with one position and grow by one on each
side with every filter, and by two with every pooling. `deconvnet.deconvolve` is the dense way, and the oracle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from explain_cnn_ros.deconvnet import Neuron, Reconstructions
from explain_cnn_ros.network import convolution_layers


@dataclass
class _Axis:
    """Rows or columns of a batch of crops.

    size: of the map.
    origin: int64 [K], where in the map each crop begins; None: every crop is the map's whole extent.
    """

    size: int
    origin: Tensor | None

    def places(self, extent: int, device: torch.device) -> Tensor:
        """The map's index of each row or column, [K, extent], or [1, size] where crops are the whole."""
        steps = torch.arange(extent, device=device)
        return steps[None] if self.origin is None else self.origin[:, None] + steps

    def inside(self, extent: int, device: torch.device) -> Tensor:
        """Which rows or columns lie in the map, bool [K or 1, extent]."""
        places = self.places(extent, device)
        return (places >= 0) & (places < self.size)


def deconvolve_crops(
    features: nn.Sequential,
    activations: Mapping[int, Tensor],
    switches: Mapping[int, tuple[Tensor, tuple[int, int]]],
    neurons: Sequence[Neuron],
    batch: int = 32,
) -> list[Reconstructions]:
    """Reconstruct each neuron's strongest activation in the input; layer by layer, in the neurons' order.

    Args:
        features: a VGG's convolutions (3 x 3, padded by 1; pooling 2 x 2), without batch norm.
        activations: of the unperturbed image, after the ReLU, by layer: [C, R, C'].
        switches: of the unperturbed image, by index of the pooling: ([C, R, C'], size of the pooled map).
        batch: neurons that go down at a time; bounds the memory.
    """
    parts = []
    for layer in sorted({n.layer for n in neurons}, reverse=True):
        of_layer = [n for n in neurons if n.layer == layer]
        for start in range(0, len(of_layer), batch):
            parts.append(_descend(features, activations[layer], switches, of_layer[start : start + batch]))
    return parts


def _descend(
    features: nn.Sequential,
    activation: Tensor,
    switches: Mapping[int, tuple[Tensor, tuple[int, int]]],
    neurons: Sequence[Neuron],
) -> Reconstructions:
    """For neurons of one layer."""
    layer = convolution_layers(features)[neurons[0].layer - 1]
    channels = torch.tensor([n.channel for n in neurons], device=activation.device)
    flat = activation[channels].flatten(1)
    position = flat.argmax(1)
    value = flat.gather(1, position[:, None]).relu()
    top, left = position // activation.shape[2], position % activation.shape[2]
    rows, columns = _Axis(activation.shape[1], top - 1), _Axis(activation.shape[2], left - 1)
    # From one position of one neuron, the transposed filter is the neuron's own filter.
    weight = _weight(features[layer.convolution])
    maps = weight[channels] * value[:, :, None, None]
    maps = _clear_outside(maps.contiguous(memory_format=torch.channels_last), rows, columns)
    for index in range(layer.convolution - 1, -1, -1):
        module = features[index]
        if isinstance(module, nn.ReLU):
            maps = maps.relu_()
        elif isinstance(module, nn.Conv2d):
            maps = _filter(maps, _weight(module), rows, columns)
        elif isinstance(module, nn.MaxPool2d):
            maps = _unpool(maps, *switches[index], rows, columns)
        else:
            raise TypeError(
                f"the deconvnet knows convolution, ReLU and max pooling, not {type(module).__name__}: "
                "fold batch norm into the convolutions first"
            )
    whole = position.new_zeros(len(neurons))
    return Reconstructions(
        tuple(neurons),
        maps,
        whole if rows.origin is None else rows.origin,
        whole if columns.origin is None else columns.origin,
    )


def _weight(module: nn.Module) -> Tensor:
    if not isinstance(module, nn.Conv2d) or module.kernel_size != (3, 3) or module.padding != (1, 1):
        raise TypeError(f"the deconvnet on crops knows convolutions of 3 x 3 padded by 1, not {module}")
    return module.weight


def _filter(maps: Tensor, weight: Tensor, rows: _Axis, columns: _Axis) -> Tensor:
    """Filter with the transposed weights: crops grow by one on each side."""
    padding = (int(rows.origin is None), int(columns.origin is None))
    maps = nn.functional.conv_transpose2d(maps, weight, None, padding=padding)
    for axis in (rows, columns):
        if axis.origin is not None:
            axis.origin = axis.origin - 1
    return _clear_outside(maps, rows, columns)


def _clear_outside(maps: Tensor, rows: _Axis, columns: _Axis) -> Tensor:
    """Zero what lies outside of the map."""
    for axis, dimension in ((rows, 2), (columns, 3)):
        if axis.origin is None:
            continue
        inside = axis.inside(maps.shape[dimension], maps.device)
        # Reading the answer would stop a GPU; multiplying by one does not.
        if maps.is_cuda or not inside.all():
            shape = (len(inside), 1, -1, 1) if dimension == 2 else (len(inside), 1, 1, -1)
            maps *= inside.view(shape)
    return maps


def _unpool(maps: Tensor, switches: Tensor, size: tuple[int, int], rows: _Axis, columns: _Axis) -> Tensor:
    """Undo a 2 x 2 max pooling: each value goes back to where the maximum was, zero elsewhere."""
    nhwc = maps.permute(0, 2, 3, 1)
    # Crops as large as the map become the map: what they hold outside of it would only be carried along.
    for axis, dimension in ((rows, 1), (columns, 2)):
        if axis.origin is not None and nhwc.shape[dimension] >= axis.size:
            nhwc = _widen(nhwc, axis, dimension)
    height, width = nhwc.shape[1], nhwc.shape[2]
    # Which of the four each maximum is: 0, 1 in the upper row, 2, 3 in the lower.
    row, column = switches // size[1], switches % size[1]
    which = (2 * (row % 2) + column % 2).to(torch.uint8).permute(1, 2, 0)
    y = rows.places(height, maps.device).clamp(0, rows.size - 1)
    x = columns.places(width, maps.device).clamp(0, columns.size - 1)
    which = which[y[:, :, None], x[:, None, :]]
    result = nhwc.new_empty(len(nhwc), height, 2, width, 2, nhwc.shape[3])
    for quarter in range(4):
        torch.mul(nhwc, which == quarter, out=result[:, :, quarter // 2, :, quarter % 2])
    result = result.view(len(nhwc), 2 * height, 2 * width, -1)
    for axis, full in ((rows, size[0]), (columns, size[1])):
        axis.size = full
        if axis.origin is not None:
            axis.origin = 2 * axis.origin
    # An odd last row or column took no part in the pooling.
    missing = [
        0 if axis.origin is not None else axis.size - extent
        for axis, extent in ((columns, 2 * width), (rows, 2 * height))
    ]
    if any(missing):
        result = nn.functional.pad(result, (0, 0, 0, missing[0], 0, missing[1]))
    return result.permute(0, 3, 1, 2)


def _widen(nhwc: Tensor, axis: _Axis, dimension: int) -> Tensor:
    """Crops [K, h, w, C] -> the map's whole extent along an axis."""
    assert axis.origin is not None
    extent = nhwc.shape[dimension]
    source = torch.arange(axis.size, device=nhwc.device) - axis.origin[:, None]
    inside = (source >= 0) & (source < extent)
    neuron = torch.arange(len(nhwc), device=nhwc.device)[:, None]
    source = source.clamp(0, extent - 1)
    axis.origin = None
    if dimension == 1:
        return nhwc[neuron, source] * inside[:, :, None, None]
    return nhwc.transpose(1, 2)[neuron, source].transpose(1, 2) * inside[:, None, :, None]
