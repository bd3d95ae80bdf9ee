"""The proof of the influence, for neurons whose numbers are still on the device.

The window, copies of it in which all selected neurons are silenced, and copies in which one neuron is silenced share
one pass. A copy with one silenced neuron joins after the next convolution, as the window minus the part of the neuron;
`vgg.silencing` does the same.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from explain_cnn_ros.explain.vgg.batched.layout import FlatLayout, LayerSpan
from explain_cnn_ros.explain.vgg.batched.selecting import BatchSelection
from explain_cnn_ros.model.network import VGGClassifier


class Silencer:
    """Silences the neurons that some metrics selected.

    Args:
        features: The layers of a VGG (convolutions of 3 x 3 padded by 1, poolings of 2 x 2), without batch norm.
        layout: The layout of the explained layers.
        metrics: Indices of the metrics, Q of them, int64 [Q].
        each: Whether each neuron is silenced by itself as well.
    """

    def __init__(self, features: nn.Sequential, layout: FlatLayout, metrics: Tensor, each: bool) -> None:
        self._layout, self._metrics, self._each = layout, metrics, each
        convolutions = [index for index, module in enumerate(features) if isinstance(module, nn.Conv2d)]
        # The explained layer before each convolution. The last layer of the network has no convolution behind it.
        self._joins: dict[int, int] = {}
        device = layout.padded.device
        self._additional = torch.tensor(layout.widest, device=device)
        self._windows: dict[int, tuple[Tensor, Tensor]] = {}
        for number, span in enumerate(layout.spans):
            after = next((index for index in convolutions if index > span.relu), None)
            if after is None:
                continue
            self._joins[after] = number
            height, width = layout.map_sizes[after]
            # Rows and columns of the padded map under the filter, [positions, taps].
            row, column, above, across = torch.meshgrid(
                *(torch.arange(side) for side in (height, width, 3, 3)), indexing="ij"
            )
            rows, columns = (part.reshape(1, height * width, 9).to(device) for part in (row + above, column + across))
            self._windows[after] = rows, columns
        self._last = next((span for span in layout.spans if span.relu > convolutions[-1]), None)

    def logits(self, network: VGGClassifier, window: Tensor, selection: BatchSelection) -> Tensor:
        """Compute the logits of the window, with all neurons of each metric silenced, and with each neuron silenced.

        Args:
            network: The VGG.
            window: A normalised window [1, 3, H, W].
            selection: The selected neurons.

        Returns:
            Logits [1 + Q + L * Q * N, classes], the last in the order of layers, metrics and ranks. Rows of neurons
            that are not valid have no meaning.
        """
        layout = self._layout
        channels, valid = selection.channels[self._metrics], selection.selected[self._metrics]
        metrics = len(channels)
        alone = channels.transpose(0, 1).flatten(1)
        # Channels that are not valid are written to an additional column.
        written = torch.where(valid, channels, self._additional)
        kept = window.new_ones(metrics, len(layout.spans), layout.widest + 1).scatter_(2, written, 0.0)
        x = window
        for index, module in enumerate(network.features):
            if self._each and index in self._joins:
                x = self._join(index, module, x, alone[self._joins[index]])
            else:
                x = module(x)
            span = layout.by_relu.get(index)
            if span is None:
                continue
            number = layout.spans.index(span)
            mask = kept[:, number, : span.channels, None, None].to(x.dtype)
            if number == 0:
                x = torch.cat([x, x * mask])
            else:
                x[1 : 1 + metrics].mul_(mask)
            if self._each and span is self._last:
                x = torch.cat([x, x[:1] * self._alone(alone[number], span, x)])
        logits: Tensor = network.classifier(x)
        return logits

    def _join(self, index: int, module: nn.Module, x: Tensor, channels: Tensor) -> Tensor:
        """Apply a convolution, and add the copies with one silenced neuron of the layer before it.

        Args:
            index: Index of the convolution in `features`.
            module: The convolution.
            x: Its input, the window first, [B, C, R, C'].
            channels: The silenced neurons, int64 [K].

        Returns:
            [B + K, C'', R, C'].
        """
        assert isinstance(module, nn.Conv2d)
        y = module(x)
        padded = nn.functional.pad(x[0], (1, 1, 1, 1))
        rows, columns = self._windows[index]
        inputs = padded[channels[:, None, None], rows, columns]
        filters = module.weight.permute(1, 2, 3, 0)[channels].flatten(1, 2)
        window = y[:1].permute(0, 2, 3, 1).flatten(1, 2)
        joined = torch.baddbmm(window.expand(len(channels), -1, -1), inputs, filters.to(inputs.dtype), alpha=-1)
        return torch.cat([y, joined.view(-1, *y.shape[2:], y.shape[1]).permute(0, 3, 1, 2)])

    @staticmethod
    def _alone(channels: Tensor, span: LayerSpan, like: Tensor) -> Tensor:
        """Return masks [K, C, 1, 1] that are 0 for one channel each."""
        masks = like.new_ones(len(channels), span.channels)
        return masks.scatter_(1, channels[:, None], 0.0)[..., None, None]
