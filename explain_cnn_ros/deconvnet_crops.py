"""The deconvnet on receptive fields: the same reconstructions, without the zeros around them.

What a neuron's strongest activation reconstructs lies within that position's receptive field: 10 pixels wide for
conv2_1, 76 for conv4_2. So each layer's neurons go down on crops that begin with one position and grow by one on each
side with every filter, and by two with every pooling; what lies outside of the image is left out where the crops are
put together anew, at the poolings. `deconvnet.deconvolve` is the dense way, and the oracle.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from explain_cnn_ros.deconvnet import Neuron, Reconstructions, switch_mask
from explain_cnn_ros.network import convolution_layers, receptive_field

#: Neurons that go down at a time: as many as have this many pixels in their receptive fields, within bounds. More are
#: no faster, and fewer have crops that are more alike.
BATCH_PIXELS = 50_000
BATCH_MIN, BATCH_MAX = 8, 32


@dataclass
class _Axis:
    """Rows or columns of a batch of crops.

    size: of the map that the crops are cut from.
    extent: of the crops.
    origins: where in the map each crop begins; negative for one that reaches outside.
    whole: every crop is the map's whole extent: nothing grows any more.
    """

    size: int
    extent: int
    origins: list[int]
    whole: bool = False

    def grow(self) -> None:
        """By one on each side."""
        if not self.whole:
            self.extent += 2
            self.origins = [origin - 1 for origin in self.origins]

    def spans(self) -> list[slice]:
        """The part of each crop that lies in the map."""
        return [slice(max(0, -o), min(self.extent, self.size - o)) for o in self.origins]

    def tighten(self) -> Iterator[tuple[slice, slice, slice]]:
        """Crops as small as the parts in the map allow: where each of these is in crop, map and new crop."""
        spans = self.spans()
        extent = max(span.stop - span.start for span in spans)
        starts = [origin + span.start for origin, span in zip(self.origins, spans, strict=True)]
        origins = [min(start, self.size - extent) for start in starts]
        for span, start, origin in zip(spans, starts, origins, strict=True):
            length = span.stop - span.start
            yield span, slice(start, start + length), slice(start - origin, start - origin + length)
        self.origins, self.extent, self.whole = origins, extent, extent == self.size

    def double(self, size: int) -> None:
        """From a pooled map to one of `size`, the odd last row or column of which took no part in the pooling."""
        self.origins = [2 * origin for origin in self.origins]
        self.extent = size if self.whole else 2 * self.extent
        self.size = size


@torch.no_grad()
def deconvolve_crops(
    features: nn.Sequential,
    activations: Mapping[int, Tensor],
    switches: Mapping[int, tuple[Tensor, tuple[int, int]]],
    neurons: Sequence[Neuron],
    batch: int | None = None,
) -> list[Reconstructions]:
    """Reconstruct each neuron's strongest activation in the input; layer by layer, the deepest first.

    Args:
        features: a VGG's convolutions (3 x 3, padded by 1; pooling 2 x 2), without batch norm.
        activations: of the unperturbed image, after the ReLU, by layer: [C, R, C'].
        switches: of the unperturbed image, by index of the pooling: ([C, R, C'], size of the pooled map).
        batch: neurons that go down at a time; bounds the memory. None: by the size of their receptive fields.
    """
    layers = {layer.number: layer for layer in convolution_layers(features)}
    deepest = max((layers[n.layer].convolution for n in neurons), default=0)
    dtype = next(iter(activations.values())).dtype if activations else torch.float32
    masks = {index: _blocks(*switch, dtype) for index, switch in switches.items() if index < deepest}
    parts = []
    for layer in sorted({n.layer for n in neurons}, reverse=True):
        channels = sorted({n.channel for n in neurons if n.layer == layer})
        height, width = activations[layer].shape[1:]
        strongest = activations[layer][channels].flatten(1).argmax(1).tolist()
        places = {c: (p // width, p % width) for c, p in zip(channels, strongest, strict=True)}
        # Neurons as far from the borders as each other lose as much of their crops.
        lost = {c: (_from_border(column, width), _from_border(row, height)) for c, (row, column) in places.items()}
        channels.sort(key=lost.__getitem__)
        together = batch or min(max(BATCH_PIXELS // receptive_field(features, layer) ** 2, BATCH_MIN), BATCH_MAX)
        for start in range(0, len(channels), together):
            chosen = [Neuron(layer, c) for c in channels[start : start + together]]
            of_chosen = [places[n.channel] for n in chosen]
            parts.append(_descend(features, activations[layer], switches, masks, chosen, of_chosen))
    return parts


def _from_border(position: int, size: int) -> int:
    return min(position, size - 1 - position)


def _blocks(switches: Tensor, size: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """One where the maxima of a 2 x 2 pooling were, [R, 2, C', 2, C], zero elsewhere."""
    mask = switch_mask(switches, size, dtype)[:, : 2 * switches.shape[1], : 2 * switches.shape[2]]
    return mask.permute(1, 2, 0).reshape(switches.shape[1], 2, switches.shape[2], 2, len(switches))


def _descend(
    features: nn.Sequential,
    activation: Tensor,
    switches: Mapping[int, tuple[Tensor, tuple[int, int]]],
    masks: Mapping[int, Tensor],
    neurons: Sequence[Neuron],
    places: Sequence[tuple[int, int]],
) -> Reconstructions:
    """For neurons of one layer, whose strongest activations are at (row, column)."""
    layer = convolution_layers(features)[neurons[0].layer - 1]
    channels = [n.channel for n in neurons]
    value = activation[channels].flatten(1).amax(1).relu()
    height, width = activation.shape[1:]
    rows = _Axis(height, 3, [row - 1 for row, _ in places])
    columns = _Axis(width, 3, [column - 1 for _, column in places])
    # From one position of one neuron, the transposed filter is the neuron's own filter.
    maps = _weight(features[layer.convolution])[channels] * value[:, None, None, None]
    maps = maps.contiguous(memory_format=torch.channels_last)
    _clear_outside(maps, rows, columns)
    for index in range(layer.convolution - 1, -1, -1):
        module = features[index]
        if isinstance(module, nn.ReLU):
            maps = maps.relu_()
        elif isinstance(module, nn.Conv2d):
            padding = (int(rows.whole), int(columns.whole))
            maps = nn.functional.conv_transpose2d(maps, _weight(module), None, padding=padding)
            rows.grow()
            columns.grow()
            _clear_outside(maps, rows, columns)
        elif isinstance(module, nn.MaxPool2d):
            maps = _unpool(maps, masks[index], switches[index][1], rows, columns)
        else:
            raise TypeError(
                f"the deconvnet knows convolution, ReLU and max pooling, not {type(module).__name__}: "
                "fold batch norm into the convolutions first"
            )
    tops, lefts = (torch.tensor(axis.origins, device=maps.device) for axis in (rows, columns))
    return Reconstructions(tuple(neurons), maps, tops, lefts)


def _weight(module: nn.Module) -> Tensor:
    if not isinstance(module, nn.Conv2d) or module.kernel_size != (3, 3) or module.padding != (1, 1):
        raise TypeError(f"the deconvnet on crops knows convolutions of 3 x 3 padded by 1, not {module}")
    return module.weight


def _clear_outside(maps: Tensor, rows: _Axis, columns: _Axis) -> None:
    """Zero what lies outside of the map."""
    for axis, dimension in ((rows, 1), (columns, 2)):
        if min(axis.origins) >= 0 and max(axis.origins) + axis.extent <= axis.size:
            continue
        for of_neuron, span in zip(maps, axis.spans(), strict=True):
            for start, stop in ((0, span.start), (span.stop, axis.extent)):
                if stop > start:
                    of_neuron.narrow(dimension, start, stop - start).zero_()


def _unpool(maps: Tensor, mask: Tensor, size: tuple[int, int], rows: _Axis, columns: _Axis) -> Tensor:
    """Undo a 2 x 2 max pooling: each value goes back to where the maximum was, zero elsewhere.

    Args:
        mask: of `_blocks`.
        size: of the map that was pooled.
    """
    parts = list(zip(rows.tighten(), columns.tighten(), strict=True))
    height, width = rows.extent, columns.extent
    rows.double(size[0])
    columns.double(size[1])
    result = maps.new_zeros(len(maps), rows.extent, columns.extent, maps.shape[1])
    for source, target, ((in_crop_y, in_map_y, at_y), (in_crop_x, in_map_x, at_x)) in zip(
        maps.permute(0, 2, 3, 1), result, parts, strict=True
    ):
        values = source[in_crop_y, None, in_crop_x, None]
        blocks = target[: 2 * height, : 2 * width].unflatten(1, (width, 2)).unflatten(0, (height, 2))
        torch.mul(values, mask[in_map_y, :, in_map_x], out=blocks[at_y, :, at_x])
    return result.permute(0, 3, 1, 2)
