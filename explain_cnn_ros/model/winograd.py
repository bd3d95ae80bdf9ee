"""Winograd convolutions F(4 x 4, 3 x 3), which need a quarter of the multiplications (Lavin & Gray 2016).

PyTorch's CPU convolutions are direct. With the number of channels of a VGG, they take 1.4 to 3 times as long as
transforming tiles, multiplying matrices, and transforming back. The results differ by rounding only. With the points
below, the rounding error is about eight times that of a direct convolution (Barabasz et al. 2020 discuss the choice).
"""

from __future__ import annotations

import copy
import math
from typing import TypeGuard

import torch
from torch import Tensor, nn

from explain_cnn_ros.model.network import VGGClassifier

#: Side of a tile: of its outputs, and of its inputs.
OUT = 4
IN = OUT + 2

#: Points at which the polynomials are evaluated, in addition to infinity. Of the sets that were tried, this is one of
#: those with the smallest rounding error.
POINTS = (0.0, 0.5**0.5, -(0.5**0.5), 2**0.5, -(2**0.5))

#: Minimum of input channels times output channels for which the transformation is faster than a direct convolution.
CHANNELS_MIN = 64 * 128

#: Maximum number of bytes of transformed tiles that are processed at a time. More would not fit the CPU's caches.
BLOCK_BYTES = 8_000_000


def transforms() -> tuple[Tensor, Tensor, Tensor]:
    """Compute the matrices of F(4, 3), the transposed Toom-Cook algorithm, in float64.

    The 4 correlations of a filter g [3] with inputs d [6] are y = A ((G g) * (B d)).

    Returns:
        A [4, 6], which transforms products to outputs; G [6, 3], which transforms filters; and B [6, 6], which
        transforms inputs.
    """

    def evaluation(length: int) -> Tensor:
        infinity = [0.0] * (length - 1) + [1.0]
        return torch.tensor([[p**power for power in range(length)] for p in POINTS] + [infinity], dtype=torch.float64)

    of_inputs = torch.linalg.inv(evaluation(IN)).T
    # Rows of equal norm reduce the rounding error. The filters compensate for the scale.
    size = of_inputs.norm(dim=1, keepdim=True)
    return evaluation(OUT).T, evaluation(3) * size, of_inputs / size


class WinogradConv2d(nn.Conv2d):
    """A Winograd convolution, 3 x 3 with a padding of 1, that shares weight and bias with another; for inference.

    The filters are transformed once, so later changes of `weight` have no effect. The transformed filters take four
    times the memory of `weight`.

    Args:
        convolution: The convolution that is computed.

    Attributes:
        filters: Transformed filters, [36, C, C'].
        to_tiles: Transformation of the inputs, [36, 36].
        from_tiles: Transformation to the outputs, [16, 36].

    Raises:
        ValueError: The convolution has another geometry; see `suits`.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        if not suits(convolution):
            raise ValueError(
                f"{convolution} has no Winograd convolution: it must be 3 x 3 padded by 1 with zeros, without stride, "
                "dilation and groups. Use the convolution itself"
            )
        with torch.device("meta"):
            super().__init__(convolution.in_channels, convolution.out_channels, 3, padding=1)
        self.weight, self.bias = convolution.weight, convolution.bias
        weight = convolution.weight.detach()
        of_outputs, of_filters, of_inputs = (matrix.to(weight.device) for matrix in transforms())
        filters = weight.permute(2, 3, 1, 0).reshape(9, -1).double()
        filters = (torch.kron(of_filters, of_filters) @ filters).to(weight)
        self.filters = filters.view(IN * IN, self.in_channels, self.out_channels)
        self.to_tiles = torch.kron(of_inputs, of_inputs).to(weight)
        self.from_tiles = torch.kron(of_outputs, of_outputs).to(weight)

    def forward(self, input: Tensor) -> Tensor:
        """Convolve maps [N, C, H, W] to [N, C', H, W]; the result is channels-last in memory."""
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
        """Convolve tiles [6, 6, N, rows, columns, C] into `result`, [N, rows, 4, columns, 4, C']."""
        transformed = self.to_tiles @ tiles.reshape(IN * IN, -1)
        products = torch.bmm(transformed.view(IN * IN, -1, self.in_channels), self.filters)
        back = self.from_tiles @ products.view(IN * IN, -1)
        outputs = back.view(OUT, OUT, *tiles.shape[2:5], self.out_channels).permute(2, 3, 0, 4, 1, 5)
        torch.add(outputs, 0 if self.bias is None else self.bias, out=result)


def suits(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Return whether a module is a convolution that `WinogradConv2d` can compute."""
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
    """Return the network with Winograd convolutions where they are faster.

    Args:
        network: The network; it is not modified. The result shares its weights and all other layers.
    """
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
