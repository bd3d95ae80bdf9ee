"""Convolutions of 3 x 3 with a quarter of the multiplications: Winograd's F(4 x 4, 3 x 3) (Lavin & Gray 2016).

PyTorch's convolutions on CPUs multiply everything out. With as many channels as a VGG has, this takes 1.4 to 3 times
as long as transforming tiles, multiplying matrices, and transforming back. The result differs by rounding only: about
eight times that of the direct way, with the points chosen below (Barabasz et al. 2020 discuss the choice).
"""

from __future__ import annotations

import copy
import math
from typing import TypeGuard

import torch
from torch import Tensor, nn

from explain_cnn_ros.network import VGGClassifier

#: A tile's outputs by side, and inputs by side.
OUT = 4
IN = OUT + 2

#: Where the polynomials are evaluated, beside infinity: of those that were tried, among those that round least.
POINTS = (0.0, 0.5**0.5, -(0.5**0.5), 2**0.5, -(2**0.5))

#: Channels in times channels out from which on transforming pays.
CHANNELS_MIN = 64 * 128

#: Bytes of transformed input that are worked on at a time: more leaves the caches.
BLOCK_BYTES = 8_000_000


def transforms() -> tuple[Tensor, Tensor, Tensor]:
    """The matrices of F(4, 3), float64: of outputs [4, 6], of filters [6, 3] and of inputs [6, 6].

    y = A ((G g) * (B d)) are the 4 correlations of a filter g of 3 with 6 inputs d: the transpose of evaluating two
    polynomials at 6 points, multiplying, and interpolating (Toom and Cook).
    """

    def evaluation(length: int) -> Tensor:
        infinity = [0.0] * (length - 1) + [1.0]
        return torch.tensor([[p**power for power in range(length)] for p in POINTS] + [infinity], dtype=torch.float64)

    of_inputs = torch.linalg.inv(evaluation(IN)).T
    # Rows of the same size, for the sake of rounding; the filters take the rest.
    size = of_inputs.norm(dim=1, keepdim=True)
    return evaluation(OUT).T, evaluation(3) * size, of_inputs / size


class WinogradConv2d(nn.Conv2d):
    """A convolution of 3 x 3, padded by 1, that shares weight and bias with another; for inference.

    Filters are transformed once: what becomes of `weight` later is not seen. They take four times the memory of
    `weight`.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        if not suits(convolution):
            raise ValueError(f"Winograd's way knows convolutions of 3 x 3 padded by 1, not {convolution}")
        with torch.device("meta"):
            super().__init__(convolution.in_channels, convolution.out_channels, 3, padding=1)
        self.weight, self.bias = convolution.weight, convolution.bias
        weight = convolution.weight.detach()
        of_outputs, of_filters, of_inputs = (matrix.to(weight.device) for matrix in transforms())
        filters = weight.permute(2, 3, 1, 0).reshape(9, -1).double()
        filters = (torch.kron(of_filters, of_filters) @ filters).to(weight)
        #: [36, C, C'], [36, 36] and [16, 36].
        self.filters = filters.view(IN * IN, self.in_channels, self.out_channels)
        self.to_tiles = torch.kron(of_inputs, of_inputs).to(weight)
        self.from_tiles = torch.kron(of_outputs, of_outputs).to(weight)

    def forward(self, input: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C', H, W], channels last."""
        count, _, height, width = input.shape
        rows, columns = math.ceil(height / OUT), math.ceil(width / OUT)
        edges = (0, 0, 1, 1 + columns * OUT - width, 1, 1 + rows * OUT - height)
        result = input.new_empty(count, rows, OUT, columns, OUT, self.out_channels)
        bytes_a_row = columns * IN * IN * max(self.in_channels, self.out_channels) * input.element_size()
        rows_together = max(1, BLOCK_BYTES // bytes_a_row)
        together = max(1, rows_together // rows)
        for first in range(0, count, together):
            padded = nn.functional.pad(input[first : first + together].permute(0, 2, 3, 1), edges)
            tiles = padded.unfold(1, IN, OUT).unfold(2, IN, OUT).permute(4, 5, 0, 1, 2, 3)
            for row in range(0, rows, rows_together):
                self._transformed(
                    tiles[:, :, :, row : row + rows_together],
                    result[first : first + together, row : row + rows_together],
                )
        maps = result.view(count, rows * OUT, columns * OUT, self.out_channels)
        return maps[:, :height, :width].permute(0, 3, 1, 2)

    def _transformed(self, tiles: Tensor, result: Tensor) -> None:
        """Tiles [6, 6, N, rows, columns, C] -> `result`, [N, rows, 4, columns, 4, C']."""
        transformed = self.to_tiles @ tiles.reshape(IN * IN, -1)
        products = torch.bmm(transformed.view(IN * IN, -1, self.in_channels), self.filters)
        back = self.from_tiles @ products.view(IN * IN, -1)
        outputs = back.view(OUT, OUT, *tiles.shape[2:5], self.out_channels).permute(2, 3, 0, 4, 1, 5)
        torch.add(outputs, 0 if self.bias is None else self.bias, out=result)


def suits(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether this is a convolution that `WinogradConv2d` can do."""
    return (
        isinstance(module, nn.Conv2d)
        and module.kernel_size == (3, 3)
        and module.padding == (1, 1)
        and module.stride == (1, 1)
        and module.dilation == (1, 1)
        and module.groups == 1
        and module.padding_mode == "zeros"
    )


def with_winograd(network: VGGClassifier) -> VGGClassifier:
    """The same network with Winograd's convolutions wherever they are faster; all else is shared, and left alone."""
    twin = copy.copy(network)
    twin._modules = dict(network._modules)
    twin.features = nn.Sequential(
        *(
            WinogradConv2d(module)
            if suits(module) and module.in_channels * module.out_channels >= CHANNELS_MIN
            else module
            for module in network.features
        )
    )
    return twin
