"""The deconvnet on crops: the same reconstructions as in `deconvnet`, without the zeros around them.

The reconstruction of one activation is zero outside of the receptive field of its position, which is
10 pixels wide for conv2_1 and 76 for conv4_2. So the neurons of each layer are reconstructed on crops. A crop starts
with one position, grows by one position on each side with every convolution, and doubles with every pooling. At the
poolings, the parts of the crops that lie outside of the image are removed. The tests compare the results with
`deconvnet.deconvolve`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from explain_cnn_ros.explain.network_adapter import Reconstructions, Start
from explain_cnn_ros.explain.vgg.deconvnet import switch_mask
from explain_cnn_ros.model.network import convolution_layers, receptive_field

#: Maximum number of pixels in the receptive fields of the neurons of one batch. Larger batches are no faster, and the
#: crops of smaller batches are more similar in size.
BATCH_PIXELS = 50_000

#: Minimum and maximum number of neurons in one batch.
BATCH_MIN, BATCH_MAX = 8, 32


@dataclass
class _Axis:
    """Rows or columns of a batch of crops.

    Attributes:
        size: Number of rows or columns of the map that the crops are cut from.
        extent: Number of rows or columns of each crop.
        origins: First row or column of each crop in the map; negative if the crop reaches out of the map.
        whole: Whether every crop is as large as the map and does not grow any more.
    """

    size: int
    extent: int
    origins: list[int]
    whole: bool = False

    def grow(self) -> None:
        """Grow all crops by one position on each side."""
        if not self.whole:
            self.extent += 2
            self.origins = [origin - 1 for origin in self.origins]

    def spans(self) -> list[slice]:
        """Return the part of each crop that lies in the map."""
        return [slice(max(0, -o), min(self.extent, self.size - o)) for o in self.origins]

    def tighten(self) -> Iterator[tuple[slice, slice, slice]]:
        """Shrink the crops to the size of the largest part that lies in the map.

        Yields:
            For each crop, the part that lies in the map: its position in the old crop, in the map, and in the new crop.
        """
        spans = self.spans()
        extent = max(span.stop - span.start for span in spans)
        starts = [origin + span.start for origin, span in zip(self.origins, spans, strict=True)]
        origins = [min(start, self.size - extent) for start in starts]
        for span, start, origin in zip(spans, starts, origins, strict=True):
            length = span.stop - span.start
            yield span, slice(start, start + length), slice(start - origin, start - origin + length)
        self.origins, self.extent, self.whole = origins, extent, extent == self.size

    def double(self, size: int) -> None:
        """Convert from the pooled map to the map before pooling, which has `size` rows or columns."""
        self.origins = [2 * origin for origin in self.origins]
        self.extent = size if self.whole else 2 * self.extent
        self.size = size


@torch.no_grad()
def deconvolve_crops(
    features: nn.Sequential,
    activations: Mapping[int, Tensor],
    switches: Mapping[int, tuple[Tensor, tuple[int, int]]],
    starts: Sequence[Start],
    batch: int | None = None,
) -> list[Reconstructions]:
    """Reconstruct one activation of each neuron in the input.

    Args:
        features: The layers of a VGG (convolutions of 3 x 3 padded by 1, poolings of 2 x 2), without batch norm.
        activations: Activations of the unperturbed image after the ReLU, by layer, [C, R, C'].
        switches: Switches of the unperturbed image, by the index of the pooling in `features`: the flat indices of the
            maxima, int64 [C, R, C'], and the size (height, width) of the maps before pooling.
        starts: The neurons and positions; whole maps are not supported.
        batch: Number of starts in one batch, which bounds the memory; None to derive it from the size of their
            receptive fields.

    Returns:
        Every start once, in batches, the deepest layer first.

    Raises:
        TypeError: `features` has other layers than those above.
    """
    layers = {layer.number: layer for layer in convolution_layers(features)}
    deepest = max((layers[start.neuron.layer].convolution for start in starts), default=0)
    dtype = next(iter(activations.values())).dtype if activations else torch.float32
    masks = {index: _blocks(*switch, dtype) for index, switch in switches.items() if index < deepest}
    parts = []
    for layer in sorted({start.neuron.layer for start in starts}, reverse=True):
        height, width = activations[layer].shape[1:]

        own = {
            start: divmod(start.position, width)
            for start in sorted(set(starts))
            if start.neuron.layer == layer and start.position is not None
        }
        # Neurons at similar distances from the borders have crops of similar size, so they share a batch.
        order = sorted(own, key=lambda s: (_from_border(own[s][1], width), _from_border(own[s][0], height)))
        together = batch or min(max(BATCH_PIXELS // receptive_field(features, layer) ** 2, BATCH_MIN), BATCH_MAX)
        for first in range(0, len(order), together):
            chosen = {start: own[start] for start in order[first : first + together]}
            parts.append(_descend(features, activations[layer], switches, masks, chosen))
    return parts


def _from_border(position: int, size: int) -> int:
    """Return the distance of a position from the nearer border of a map."""
    return min(position, size - 1 - position)


def _blocks(switches: Tensor, size: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """Return blocks [R, 2, C', 2, C] that are 1 at the maxima of a 2 x 2 pooling and 0 elsewhere."""
    mask = switch_mask(switches, size, dtype)[:, : 2 * switches.shape[1], : 2 * switches.shape[2]]
    return mask.permute(1, 2, 0).reshape(switches.shape[1], 2, switches.shape[2], 2, len(switches))


def _descend(
    features: nn.Sequential,
    activation: Tensor,
    switches: Mapping[int, tuple[Tensor, tuple[int, int]]],
    masks: Mapping[int, Tensor],
    starts: Mapping[Start, tuple[int, int]],
) -> Reconstructions:
    """Reconstruct neurons of one layer in one batch.

    Args:
        features: The layers of a VGG.
        activation: Activations of the layer after the ReLU, [C, R, C'].
        switches: Switches by the index of the pooling; see `deconvolve_crops`.
        masks: Results of `_blocks` by the index of the pooling.
        starts: The starts with their positions (row, column).
    """
    places = list(starts.values())
    layer = convolution_layers(features)[next(iter(starts)).neuron.layer - 1]
    channels = [start.neuron.channel for start in starts]
    height, width = activation.shape[1:]
    value = activation[channels, [row for row, _ in places], [column for _, column in places]].relu()
    rows = _Axis(height, 3, [row - 1 for row, _ in places])
    columns = _Axis(width, 3, [column - 1 for _, column in places])
    # The transposed convolution of a single activation is the neuron's filter, multiplied by the activation.
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
                f"the deconvnet supports convolution, ReLU and max pooling, not {type(module).__name__}: "
                "fold batch norm into the convolutions first"
            )
    tops, lefts = (torch.tensor(axis.origins, device=maps.device) for axis in (rows, columns))
    return Reconstructions(tuple(starts), maps, tops, lefts)


def _weight(module: nn.Module) -> Tensor:
    """Return the weight of a convolution of 3 x 3 padded by 1."""
    if not isinstance(module, nn.Conv2d) or module.kernel_size != (3, 3) or module.padding != (1, 1):
        raise TypeError(
            f"the deconvnet on crops supports convolutions of 3 x 3 padded by 1, not {module}: use "
            "`deconvnet.deconvolve`"
        )
    return module.weight


def _clear_outside(maps: Tensor, rows: _Axis, columns: _Axis) -> None:
    """Set the parts of the crops that lie outside of the map to zero, in place."""
    for axis, dimension in ((rows, 1), (columns, 2)):
        if min(axis.origins) >= 0 and max(axis.origins) + axis.extent <= axis.size:
            continue
        for of_neuron, span in zip(maps, axis.spans(), strict=True):
            for start, stop in ((0, span.start), (span.stop, axis.extent)):
                if stop > start:
                    of_neuron.narrow(dimension, start, stop - start).zero_()


def _unpool(maps: Tensor, mask: Tensor, size: tuple[int, int], rows: _Axis, columns: _Axis) -> Tensor:
    """Undo a 2 x 2 max pooling by moving each value to the position of the maximum; everything else is zero.

    Args:
        maps: The crops of the pooled map, [K, C, h, w].
        mask: Result of `_blocks`.
        size: Size (height, width) of the map before pooling.
        rows: Rows of the crops; they are converted to the map before pooling.
        columns: Columns of the crops; they are converted as well.

    Returns:
        The crops of the map before pooling.
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
