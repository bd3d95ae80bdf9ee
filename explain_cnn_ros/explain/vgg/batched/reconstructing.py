"""The deconvnet for the neurons of all layers and metrics, on crops of fixed size, and the boxes of the patches."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from explain_cnn_ros.explain.vgg.batched.crops import CropGroup, crop_groups
from explain_cnn_ros.explain.vgg.batched.layout import FlatLayout
from explain_cnn_ros.model.network import convolution_layers


class Reconstructor:
    """Reconstructs single activations in the input; all tables and transposed filters are built in advance.

    The activations are set to 1: a reconstruction is proportional to the activation, and so its box is the same.

    Args:
        features: The layers of a VGG (convolutions of 3 x 3 padded by 1, poolings of 2 x 2), without batch norm.
        layout: The layout of the explained layers.
        share: A patch is the box around the pixels above this share of the strongest one.
        count: Number of starts in each layer, K.

    Raises:
        TypeError: `features` has other layers than those above.
    """

    def __init__(self, features: nn.Sequential, layout: FlatLayout, share: float, count: int) -> None:
        self._features, self._layout, self._share = features, layout, share
        self._groups = crop_groups(features, layout)
        convolutions = {layer.convolution: layer for layer in convolution_layers(features)}
        explained = {span.relu for span in layout.spans}
        device = layout.padded.device
        self._taps: dict[int, Tensor] = {}
        self._transposed: dict[int, Tensor] = {}
        for index, module in enumerate(features[: layout.spans[-1].relu]):
            if isinstance(module, nn.Conv2d):
                if module.kernel_size != (3, 3) or module.padding != (1, 1):
                    raise TypeError(
                        f"the deconvnet on crops supports convolutions of 3 x 3 padded by 1, not {module}: use "
                        "`deconvnet.deconvolve`"
                    )
                transposed = module.weight.transpose(0, 1).flip(2, 3)
                self._transposed[index] = transposed.contiguous(memory_format=torch.channels_last)
                if convolutions[index].activation in explained:
                    padded = nn.functional.pad(module.weight, (0, 1, 0, 1))
                    self._taps[convolutions[index].activation] = padded.permute(0, 2, 3, 1).contiguous()
            elif not isinstance(module, nn.ReLU | nn.MaxPool2d):
                raise TypeError(
                    f"the deconvnet supports convolution, ReLU and max pooling, not {type(module).__name__}: "
                    "fold batch norm into the convolutions first"
                )
        tables = [[group.rows for group in self._groups], [group.columns for group in self._groups]]
        first_lines = [[line for table in of_axis for line in table.first_lines] for of_axis in tables]
        self._first_lines = torch.tensor(first_lines)[:, :, None].to(device)
        self._widest = max(max(group.rows.extent, group.columns.extent) for group in self._groups)
        most = max(len(group.spans) for group in self._groups) * count
        self._numbers = torch.arange(most, device=device)[:, None, None]
        column = torch.arange(self._widest, device=device)
        self._ends = torch.stack([self._widest - column, column + 1])[:, None, None]

    def boxes(self, starts: Tensor, switches: Mapping[int, Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Compute the boxes of the reconstructions.

        Args:
            starts: Channel, row and column of each start, int64 [3, L, K], for each explained layer.
            switches: Switches by the index of the pooling; see `BatchPass`.

        Returns:
            Boxes in their crops, int64 [2, 2, L * K]: first the distance of the box's begin from the end of the widest
            crop, then its end, both for rows and columns; 0 for reconstructions that are zero everywhere. And the first
            rows and the first columns of the crops, in the input, by group.
        """
        count = starts.shape[2]
        masks = {index: self._switch_mask(index, of_pooling) for index, of_pooling in switches.items()}
        lines = starts[1:] + self._first_lines
        extremes: Tensor | None = None
        origins: list[list[Tensor]] = [[], []]
        for group in self._groups:
            layers = slice(group.first, group.first + len(group.spans))
            rows = group.rows.entries[lines[0, layers].reshape(-1)]
            columns = group.columns.entries[lines[1, layers].reshape(-1)]
            pixels = self._descend(group, starts[0, layers], rows, columns, masks)
            if extremes is None:
                extremes = pixels.new_zeros(2, starts.shape[1] * count, self._widest)
            strength = torch.linalg.vector_norm(pixels, float("inf"), dim=1)
            own = slice(layers.start * count, layers.stop * count)
            torch.amax(strength, 2, out=extremes[0, own, : group.rows.extent])
            torch.amax(strength, 1, out=extremes[1, own, : group.columns.extent])
            origins[0].append(group.rows.origins(rows))
            origins[1].append(group.columns.origins(columns))
        assert extremes is not None
        above = extremes > (self._share * extremes[0].amax(1))[:, None]
        return (above * self._ends).amax(3), [*origins[0], *origins[1]]

    @property
    def widest(self) -> int:
        """Size of the widest crop."""
        return self._widest

    def _switch_mask(self, index: int, switches: Tensor) -> Tensor:
        """Return maps [R + 1, C' + 1, C] that are 1 at the maxima of a pooling; the last row and column are 0."""
        height, width = self._layout.map_sizes[index]
        channels = switches.shape[2]
        mask = torch.zeros((height + 1) * (width + 1), channels, dtype=self._dtype, device=switches.device)
        flat = switches.reshape(-1, channels)
        mask.scatter_(0, flat + flat // width, 1.0)
        return mask.view(height + 1, width + 1, channels)

    @property
    def _dtype(self) -> torch.dtype:
        return next(iter(self._transposed.values())).dtype

    def _descend(
        self, group: CropGroup, channels: Tensor, rows: Tensor, columns: Tensor, masks: Mapping[int, Tensor]
    ) -> Tensor:
        """Reconstruct the neurons of a group: crops of the input, [layers * K, 3, h, w].

        Args:
            group: The group.
            channels: Channels of the neurons, [layers, K].
            rows: Their lines of the table of rows.
            columns: Their lines of the table of columns.
            masks: Results of `_switch_mask` by the index of the pooling.
        """
        count = channels.shape[1]
        begins = {span.relu: i for i, span in enumerate(group.spans)}
        maps: Tensor | None = None  # of the neurons of the layers from `begin`, [B, C, h, w]
        begin = len(rows)
        for index in range(group.spans[-1].relu, -1, -1):
            module = self._features[index]
            if isinstance(module, nn.ReLU) and maps is not None:
                maps = maps.relu_()
            elif isinstance(module, nn.Conv2d):
                if maps is not None:
                    maps = nn.functional.conv2d(maps, self._transposed[index], padding=1)
                if index + 1 in begins:
                    layer = begins[index + 1]
                    begin = layer * count
                    own = slice(begin, begin + count)
                    # The transposed convolution of a single activation is the neuron's filter.
                    seeds = self._taps[index + 1][
                        channels[layer, :, None, None],
                        rows[own, group.rows.taps, None],
                        columns[own, None, group.columns.taps],
                    ].permute(0, 3, 1, 2)
                    maps = seeds if maps is None else torch.cat([seeds, maps])
            elif isinstance(module, nn.MaxPool2d):
                assert maps is not None
                above, across = group.rows.unpoolings[index], group.columns.unpoolings[index]
                values = maps.permute(0, 2, 3, 1)[
                    self._numbers[: len(maps)],
                    rows[begin:, above.sources, None],
                    columns[begin:, None, across.sources],
                ]
                at_maxima = masks[index][rows[begin:, above.switches, None], columns[begin:, None, across.switches]]
                maps = values.mul_(at_maxima).permute(0, 3, 1, 2)
        assert maps is not None
        return maps
